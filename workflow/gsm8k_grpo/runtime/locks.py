"""Locks between the processes of a working folder.  The kernel releases a lock when its process ends in any way."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from gsm8k_grpo.files import PipelineError

FOLDER = Path(".work/locks")
PATIENCE = 15.0  # seconds; a process that was asked to end first saves a checkpoint
# What a file system without locks answers, such as NFS whose lock server is away.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def lock(name: str, folder: Path = FOLDER) -> FileLock:
    """The lock `name`, not yet taken, of this working folder unless another folder is given.

    A file that stands for a lock would remain after a kill, so there is no such substitute.
    """
    return FileLock(folder / f"{name}.lock", fallback_to_soft=False)


def take(lock: FileLock, seconds: float) -> bool:
    """Take a lock, for which a process that holds it is waited for; returns whether it was possible in that time.

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
