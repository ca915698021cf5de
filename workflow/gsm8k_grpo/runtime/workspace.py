"""The place where the pipeline reads and writes: what is wrong with it, and what to do."""

import errno
import os
from pathlib import Path

from gsm8k_grpo.files import PipelineError

FAULTS = {
    errno.EACCES: "no permission; change its owner or mode, or work in a folder of your own",
    errno.EPERM: "not permitted; change its owner or mode, or work in a folder of your own",
    errno.EROFS: "the file system is read-only; work on one that can be written",
    errno.EEXIST: "a file stands where a folder must be; move it away",
    errno.ENOTDIR: "a file stands where a folder must be; move it away",
    errno.EISDIR: "a folder stands where a file must be; move it away",
    errno.ENOSPC: "no space is left on the disk; make room",
    errno.EDQUOT: "the quota of the disk is used up; make room",
}


def explain(error: OSError) -> str | None:
    """The line for an error that the place is to blame for, None for any other."""
    if error.errno not in FAULTS:
        return None
    return f"{error.filename or Path.cwd()}: {FAULTS[error.errno]}, then give the same command again"


def require_writable(results: Path) -> None:
    """Look before the work whether its folders are folders, and the first two of them can be written.

    The folders are the working folder, `results` and those of the stages in it; none of the latter need be there.

    Raises:
        PipelineError: naming the first that is not as it should be.
    """
    for folder in (Path.cwd(), results):
        if folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK):
            raise PipelineError(explain(PermissionError(errno.EACCES, "", str(folder))))
    for folder in (results, *results.glob("[!.]*")):
        if folder.exists() and not folder.is_dir():
            raise PipelineError(explain(NotADirectoryError(errno.ENOTDIR, "", str(folder))))
