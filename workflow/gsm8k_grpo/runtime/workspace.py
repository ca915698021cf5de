"""The folder in which the pipeline works: explains errors of its file system, and checks it before the work starts."""

import errno
import os
import shlex
from datetime import datetime
from pathlib import Path

from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.runtime.imports import PACKAGE

NO_PERMISSION = "no permission; change its owner or mode, or work in a folder of your own"
FILE_IN_THE_WAY = "a file is where a folder must be; move it away"

FAULTS = {
    errno.EACCES: NO_PERMISSION,
    errno.EPERM: NO_PERMISSION,
    errno.EROFS: "the file system is read-only; work on one that can be written",
    errno.EEXIST: FILE_IN_THE_WAY,
    errno.ENOTDIR: FILE_IN_THE_WAY,
    errno.EISDIR: "a folder is where a file must be; move it away",
    errno.ENOSPC: "no space is left on the disk; free some",
    errno.EDQUOT: "the quota of the disk is used up; free some space",
}


def explain(error: OSError) -> str | None:
    """A line that names the path, the fault and the remedy; None for errors that the working folder does not cause."""
    if error.errno not in FAULTS:
        return None
    return _line(error.filename or Path.cwd(), error.errno)


def require_writable(results: Path) -> None:
    """Check before the work starts that the folders that it needs can be used.

    The working folder and `results` must be writable, and whatever lies in `results` must be a folder.  Neither
    `results` nor the folders in it need to exist.

    Raises:
        PipelineError: for the first path that can't be used.
    """
    for folder in (Path.cwd(), results):
        if folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK):
            raise PipelineError(_line(folder, errno.EACCES))
    for folder in (results, *results.glob("[!.]*")):
        if folder.exists() and not folder.is_dir():
            raise PipelineError(_line(folder, errno.ENOTDIR))


def require_past(results: Path, sources: list[Path]) -> None:
    """Check that no file was last changed in the future, since Snakemake would discard what is made from such a file.

    The present time is that of the file system that holds the working folder, since a server's clock may differ.

    Args:
        sources: further files that the pipeline reads.

    Raises:
        PipelineError: for the newest such file; the message has the command that gives it the present time.
    """
    files = [*results.rglob("*"), *sources]
    newest, path = max(((_changed(file), file) for file in files), default=(0.0, results))
    clock = Path(".work/clock")
    clock.parent.mkdir(exist_ok=True)
    clock.touch()
    if newest > clock.stat().st_mtime:
        place = results if path.is_relative_to(results) else path
        raise PipelineError(
            f"{path}: it was last changed in the future ({datetime.fromtimestamp(newest):%Y-%m-%d %H:%M:%S}), so "
            "Snakemake would take everything that is made from it as outdated; correct the clock, or run "
            f"`find {shlex.quote(str(place))} -newermt now -exec touch {{}} +`"
        )


def _changed(path: Path) -> float:
    """When a file was last changed, in seconds since 1970; 0 for a folder, and for a file that was just removed."""
    try:
        return path.stat().st_mtime if path.is_file() else 0.0
    except FileNotFoundError:
        return 0.0


def require_own_code() -> None:
    """Check that a working folder that holds a copy of the package runs this copy, and not another one.

    Raises:
        PipelineError: if it runs another one; the message names the folder of the imported code.
    """
    own = Path("workflow") / PACKAGE.name
    if own.is_dir() and own.resolve() != PACKAGE:
        raise PipelineError(
            f"{own}: this folder has code of its own, but the command imported {PACKAGE}; call this folder's "
            "environment (`make check` sets up .venv), or set PYTHONPATH=workflow"
        )


def _line(path: Path | str, fault: int) -> str:
    return f"{path}: {FAULTS[fault]}, then run the same command again"
