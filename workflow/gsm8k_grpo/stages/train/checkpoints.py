"""Resumable checkpoints of a training run, in `checkpoints/<variant>-<hash of what shapes training>/`.

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

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.files import PipelineError, read_json, sha256, write_json
from gsm8k_grpo.runtime import locks
from gsm8k_grpo.runtime.imports import PACKAGE, import_closure

FOLDER = Path("checkpoints")
OLD_FOLDER = Path("scratch")  # where earlier versions kept them
KEPT_LATEST = 2  # the newest, and one to fall back to
SHAPING = {
    "seed", "threads", "model", "backend", "engine", "precision", "quantization", "lora", "base", "keep_checkpoints",
}  # fmt: skip
# Rooms whose code can't change what training computes.  The configuration's values count, not the code that reads it.
WITHOUT_EFFECT = frozenset({"config", "memory", "runtime", "tracking", "analysis"})
LIBRARIES = ("torch", "transformers", "trl", "accelerate", "peft")

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
    """A run's folder: which variant trained there, how far it came, and what it takes on the disk."""

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
        "code": _code_digests(),
        "libraries": {name: version(name) for name in (*LIBRARIES, *_chosen(variant, params))},
    }
    digest = hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()
    return FOLDER / f"{variant}-{digest[:12]}"


def _method(variant: str, params: Params) -> dict[str, Any]:
    """What shapes training by the variant's method alone."""
    if params.variant_method(variant) == "sft":
        return {"sft": params.sft.model_dump(), "prompts": params.train.prompts, "answers": params.extract.answers}
    return {"train": params.train.model_dump(), "rewards": params.variant_rewards(variant).model_dump()}


def _chosen(variant: str, params: Params) -> list[str]:
    """Libraries that take part only where the configuration names them."""
    section = params.sft if params.variant_method(variant) == "sft" else params.train
    eight_bit = params.quantization is not None or section.optim.endswith("8bit")
    named = [name for name in ("unsloth", "vllm") if name in (params.backend, params.engine)]
    return [*named, "bitsandbytes"] if eight_bit else named


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
            f"{f'{before} is whole' if before else 'There is no checkpoint yet'}. Make room (gsm8k-grpo checkpoints "
            "lists the folders of old runs), then give the same command again: it goes on from there."
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
    """Every run that has a folder, those in the folder of earlier versions last."""
    return [_read(path) for place in (FOLDER, OLD_FOLDER) for path in sorted(place.glob("*-*")) if path.is_dir()]


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


def _code_digests() -> dict[str, str]:
    """The digest of every module that the stage imports, by its path in the package."""
    stage = Path(__file__).with_name("stage.py")
    modules = sorted(import_closure(stage, WITHOUT_EFFECT))
    return {str(path.relative_to(PACKAGE)): sha256(path) for path in modules}


def _sync(path: Path) -> None:
    """Have the disk hold what was written, so that a power cut finds the files before their manifest."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _mib(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"
