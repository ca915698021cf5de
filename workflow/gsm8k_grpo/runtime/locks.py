"""Locks between the processes of a working folder.  The kernel releases a lock when its process ends in any way."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from gsm8k_grpo.files import PipelineError

FOLDER = Path(".work/locks")
PATIENCE = 15.0  # seconds; a process that was asked to end first saves a checkpoint


@contextmanager
def held(name: str) -> Iterator[None]:
    """Hold the lock `name` of this working folder during the block.

    Raises:
        PipelineError: if another process keeps the lock for longer than `PATIENCE`.
    """
    try:
        with FileLock(FOLDER / f"{name}.lock", timeout=PATIENCE):
            yield
    except Timeout:
        raise PipelineError(f"another process is running {name} in this folder; wait for it, or stop it") from None
