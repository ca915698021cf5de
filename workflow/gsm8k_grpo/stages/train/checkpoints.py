"""Checkpoints of a training run: written, verified, kept and removed.

A run has its own folder, see `run_folders.py`.  A checkpoint is intact if it has a manifest, which is written last, and
the digests of its files are those in the manifest.
"""

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from transformers.trainer_callback import TrainerState

from gsm8k_grpo.files import PipelineError, replaced_folder, sha256, write_json

KEPT_LATEST = 2  # the newest, and one to fall back to
MANIFEST = "manifest.json"
STATE = "trainer_state.json"
NAME = re.compile(r"checkpoint-(\d+)")
REFERENCE = "ref"  # TRL's name for the adapter that is the reference of the KL term
HEAD = "value_head"  # the name of PPO's value head in the trained model
VALUE_HEAD = f"{HEAD}.safetensors"
# The files that only a resumed run needs, some of them pickles; the rest of a checkpoint is the model.
RESUMING = (
    "optimizer.pt", "optimizer", "scheduler.pt", "scaler.pt", "rng_state*.pth", "training_args.bin", STATE, MANIFEST,
    "generation*.safetensors", "samples.jsonl", "session.json", REFERENCE, VALUE_HEAD,
)  # fmt: skip


def newest(run_folder: Path) -> Path | None:
    """The newest intact checkpoint of a run, None if there is none; damaged ones are reported and removed."""
    for checkpoint in reversed(all_of(run_folder)):
        damage = _damage(checkpoint)
        if damage is None:
            return checkpoint
        print(f"{checkpoint}: {damage}; removed it, falling back to the previous checkpoint", file=sys.stderr)
        shutil.rmtree(checkpoint)
    return None


def state(checkpoint: Path) -> TrainerState:
    """The state of the trainer when it wrote a checkpoint."""
    return TrainerState.load_from_json(str(checkpoint / STATE))


def step_of(checkpoint: Path) -> int:
    """The step of a checkpoint, from its name."""
    return int(checkpoint.name.removeprefix("checkpoint-"))


def all_of(run_folder: Path) -> list[Path]:
    """The checkpoints of a run from the oldest to the newest, intact or not."""
    return sorted((path for path in run_folder.glob("checkpoint-*") if NAME.fullmatch(path.name)), key=step_of)


def seal(checkpoint: Path) -> None:
    """Declare a checkpoint complete: flush its files to the disk and write their digests into the manifest."""
    digests = {}
    for path in sorted(path for path in checkpoint.rglob("*") if path.is_file()):
        digests[str(path.relative_to(checkpoint))] = sha256(path)
        _sync(path)
    write_json(checkpoint / MANIFEST, digests)
    _sync(checkpoint / MANIFEST)
    _sync(checkpoint)


@contextmanager
def writing(run_folder: Path, folder: Path, size: int) -> Iterator[None]:
    """Wrap the writing of `folder`, of about `size` bytes, so that a full disk leaves no incomplete folder.

    torch and safetensors report a full disk with errors of their own, so the free space tells if that is the cause.

    Raises:
        PipelineError: if an error occurs and less than `size` bytes are free.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        free = shutil.disk_usage(run_folder).free
        if free >= size:
            raise
        shutil.rmtree(folder, ignore_errors=True)
        last = newest(run_folder)
        raise PipelineError(
            f"{folder}: the disk is full: writing it takes about {_mib(size)}, {_mib(free)} are free. "
            f"{f'{last} is intact' if last else 'There is no checkpoint yet'}. Free some space (`gsm8k-grpo "
            "checkpoints` lists the folders of old runs), then repeat the command: it resumes from there."
        ) from error


def promote(checkpoint: Path, target: Path) -> None:
    """Copy the model out of a checkpoint into `target`, which it replaces."""
    with replaced_folder(target) as part:
        shutil.copytree(checkpoint, part, ignore=shutil.ignore_patterns(*RESUMING), dirs_exist_ok=True)


def keep(run_folder: Path, step: int, save: Callable[[Path], None], size: int) -> None:
    """Keep the weights of a step next to the checkpoints.

    A resumed run may pass a kept step again; it then replaces the folder with the same weights.

    Args:
        save: writes the model, about `size` bytes, into a folder.
    """
    with replaced_folder(kept(run_folder, step)) as part, writing(run_folder, part, size):
        save(part)


def kept(run_folder: Path, step: int) -> Path:
    """The folder of the kept weights of a step."""
    return run_folder / "kept" / str(step)


def prune(run_folder: Path) -> None:
    """Remove all checkpoints of a finished run but the newest, which suffices to write its results again."""
    for checkpoint in all_of(run_folder)[:-1]:
        shutil.rmtree(checkpoint)


def _damage(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, None if it is intact."""
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


def _sync(path: Path) -> None:
    """Flush a file or folder to the disk, so that a power cut can't leave a manifest without its files."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _mib(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"
