"""Locks between processes that share a working folder.  The kernel frees one when its process ends, however it ends."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from gsm8k_grpo.files import PipelineError

FOLDER = Path(".work/locks")
PATIENCE = 15.0  # seconds; a process that was asked to end saves a checkpoint first


@contextmanager
def held(name: str) -> Iterator[None]:
    """Hold the lock of that name, in this working folder, while the block runs.

    Raises:
        PipelineError: where another process keeps it for longer than `PATIENCE`.
    """
    try:
        with FileLock(FOLDER / f"{name}.lock", timeout=PATIENCE):
            yield
    except Timeout:
        raise PipelineError(f"another process is running {name} in this folder; wait for it, or stop it") from None
