"""Locks between the processes of a working folder.  The kernel releases a lock when its process ends in any way."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from gsm8k_grpo.files import PipelineError

FOLDER = Path(".work/locks")
PATIENCE = 15.0  # seconds, since a process that was asked to end saves a checkpoint first
# The errors of a file system without locks, such as NFS whose lock server does not answer.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def lock(name: str, folder: Path = FOLDER) -> FileLock:
    """The lock `name` of a folder, by default of this working folder; it is not yet taken.

    Where the file system has no locks, a file whose mere existence is the lock does not replace it, since such a file
    would remain after a kill.
    """
    return FileLock(folder / f"{name}.lock", fallback_to_soft=False)


def take(lock: FileLock, seconds: float) -> bool:
    """Take a lock, and wait for at most `seconds` if another process holds it; returns whether it was taken.

    Raises:
        PipelineError: if the file system has no locks.
    """
    try:
        lock.acquire(timeout=seconds)
    except Timeout:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        folder = Path(lock.lock_file).parent.resolve()
        raise PipelineError(
            f"{folder}: its file system refuses to lock a file ({error.strerror}), and without locks two "
            "pipelines could write the same results; work in a folder on a local disk, or have its administrator "
            "enable locks"
        ) from error
    return True


@contextmanager
def held(name: str) -> Iterator[None]:
    """Hold the lock `name` of this working folder during the block.

    Raises:
        PipelineError: if another process keeps the lock for longer than `PATIENCE`, or the file system has no locks.
    """
    own = lock(name)
    if not take(own, PATIENCE):
        raise PipelineError(f"another process is running {name} in this folder; wait for it, or stop it")
    try:
        yield
    finally:
        own.release()
