"""Resumable checkpoints of a training run, in `scratch/<variant>-<hash of what shapes training>/`.

A run that was interrupted finds its newest checkpoint again by that hash; other settings, data, code or libraries
make another hash, so nothing resumes from a run that it does not continue.  A checkpoint is whole when its manifest,
which is written last, stands beside its files and their digests agree.
"""

import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers.trainer_callback import TrainerState

from gsm8k_grpo import locks
from gsm8k_grpo.files import PipelineError, read_json, sha256, write_json
from gsm8k_grpo.params import Params

SCRATCH = Path("scratch")
KEPT_LATEST = 2  # the newest, and one to fall back to
SHAPING = {
    "seed", "threads", "model", "backend", "engine", "precision", "quantization", "lora", "base", "keep_checkpoints",
}  # fmt: skip
CODE = (
    "checkpoints", "corpus", "engines", "extract", "grpo", "logprobs", "models", "packed_grpo", "packing", "resumable",
    "rewards/*", "rollouts", "sft", "train", "unsloth_backend",
)  # fmt: skip
LIBRARIES = ("torch", "transformers", "trl", "accelerate", "peft")
CHOSEN = ("unsloth", "vllm")  # libraries that take part where backend and engine name them
MANIFEST = "manifest.json"
STATE = "trainer_state.json"
NAME = re.compile(r"checkpoint-(\d+)")
REFERENCE = "ref"  # TRL's name of the adapter that the KL term is to
# What a checkpoint holds beside the model's own files: the means to go on, pickles among them.
RESUMING = (
    "optimizer.pt", "scheduler.pt", "scaler.pt", "rng_state*.pth", "training_args.bin", STATE, MANIFEST,
    "generation.safetensors", "samples.jsonl", "session.json", REFERENCE,
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """A folder under scratch: which variant trained there, how far it came, and what it takes on the disk."""

    folder: Path
    step: int
    steps: int
    size: int

    @property
    def variant(self) -> str:
        return self.folder.name.rpartition("-")[0]


def folder(variant: str, params: Params, data: Path, base: Path) -> Path:
    """The folder of a variant's checkpoints.

    Args:
        data: the training data; its bytes count.
        base: base.json, which names the model and the digests of its files.
    """
    shaping = params.model_dump(include=SHAPING) | {
        "variant": params.variants[variant].model_dump(),
        "method": _method(variant, params),
        "data": sha256(data),
        "base": sha256(base),
        "code": {path.name: sha256(path) for path in _code()},
        "libraries": {name: version(name) for name in (*LIBRARIES, *_chosen(params))},
    }
    digest = hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()
    return SCRATCH / f"{variant}-{digest[:12]}"


def _method(variant: str, params: Params) -> dict[str, Any]:
    """What shapes training by the variant's method alone."""
    if params.variant_method(variant) == "sft":
        return {"sft": params.sft.model_dump(), "prompts": params.train.prompts, "answers": params.extract.answers}
    return {"train": params.train.model_dump(), "rewards": params.variant_rewards(variant).model_dump()}


def _chosen(params: Params) -> list[str]:
    return [name for name in CHOSEN if name in (params.backend, params.engine)]


def newest(run: Path) -> Path | None:
    """The newest whole checkpoint of a run, None where there is none; a damaged one is named and removed."""
    for checkpoint in reversed(_checkpoints(run)):
        damage = _damage(checkpoint)
        if damage is None:
            return checkpoint
        print(f"{checkpoint}: {damage}; removed, going back to the one before", file=sys.stderr)
        shutil.rmtree(checkpoint)
    return None


def finished(checkpoint: Path | None) -> bool:
    """Whether a checkpoint is the last of its run."""
    if checkpoint is None:
        return False
    state = TrainerState.load_from_json(str(checkpoint / STATE))
    return state.global_step >= state.max_steps


def seal(checkpoint: Path) -> None:
    """Declare a checkpoint whole: its files are on the disk, and their digests stand in its manifest."""
    digests = {}
    for path in sorted(path for path in checkpoint.rglob("*") if path.is_file()):
        digests[str(path.relative_to(checkpoint))] = sha256(path)
        _sync(path)
    write_json(checkpoint / MANIFEST, digests)
    _sync(checkpoint / MANIFEST)
    _sync(checkpoint)


@contextmanager
def writing(run: Path, folder: Path, size: int) -> Iterator[None]:
    """While `folder`, of about `size` bytes, is written: no room on the disk is said, and leaves no half behind.

    torch and safetensors report a full disk in errors of their own, so that the room that is left decides.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        free = shutil.disk_usage(run).free
        if free >= size:
            raise
        shutil.rmtree(folder, ignore_errors=True)
        before = newest(run)
        raise PipelineError(
            f"{folder}: the disk is full: this takes about {_mib(size)}, {_mib(free)} were left. "
            f"{f'{before} is whole' if before else 'There is no checkpoint yet'}. Make room (gsm8k-grpo scratch lists "
            "the folders of old runs), then give the same command again: it goes on from there."
        ) from error


def promote(checkpoint: Path, target: Path) -> None:
    """Copy the model's own files out of a checkpoint, beside `target` and then in its place."""
    beside = target.with_name(target.name + ".part")
    for leftover in (beside, target):
        shutil.rmtree(leftover, ignore_errors=True)
    shutil.copytree(checkpoint, beside, ignore=shutil.ignore_patterns(*RESUMING))
    beside.replace(target)


def keep(run: Path, step: int, save: Callable[[Path], None], size: int) -> None:
    """Keep the weights of a step beside the checkpoints; `save` writes the model, about `size` bytes, into a folder."""
    target = kept(run, step)
    beside = target.with_name(target.name + ".part")
    shutil.rmtree(beside, ignore_errors=True)
    with writing(run, beside, size):
        save(beside)
    shutil.rmtree(target, ignore_errors=True)  # a resumed run comes by again, with the same weights
    beside.replace(target)


def kept(run: Path, step: int) -> Path:
    return run / "kept" / str(step)


def prune(run: Path) -> None:
    """Leave the newest checkpoint of a finished run: all that it takes to write its results again."""
    for checkpoint in _checkpoints(run)[:-1]:
        shutil.rmtree(checkpoint)


def runs() -> list[Run]:
    """Every run that has a folder under scratch."""
    return [_read(path) for path in sorted(SCRATCH.glob("*-*")) if path.is_dir()]


def remove(run: Run) -> None:
    """Remove a run's folder, unless a process is at work in it."""
    with locks.held(f"train-{run.variant}"):
        shutil.rmtree(run.folder)


def _read(path: Path) -> Run:
    states = [read_json(checkpoint / STATE) for checkpoint in _checkpoints(path) if (checkpoint / MANIFEST).exists()]
    last = states[-1] if states else {"global_step": 0, "max_steps": 0}
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return Run(path, last["global_step"], last["max_steps"], size)


def _checkpoints(run: Path) -> list[Path]:
    """Checkpoints of a run from the oldest to the newest, whole or not."""
    found = [path for path in run.glob("checkpoint-*") if NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(NAME.fullmatch(path.name)[1]))


def _damage(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, None where it is whole."""
    try:
        digests = json.loads((checkpoint / MANIFEST).read_bytes())
    except FileNotFoundError:
        return "not completely written"
    except ValueError:
        return f"{MANIFEST} is damaged"
    for name, digest in digests.items():
        if not (checkpoint / name).is_file():
            return f"{name} is missing"
        if sha256(checkpoint / name) != digest:
            return f"{name} does not agree with its checksum"
    return None


def _code() -> list[Path]:
    package = Path(__file__).parent
    return [path for name in CODE for path in sorted(package.glob(f"{name}.py"))]


def _sync(path: Path) -> None:
    """Have the disk hold what was written, so that a power cut finds the files before their manifest."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _mib(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"
