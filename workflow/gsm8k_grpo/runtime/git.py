"""The commit of the code that runs, as git reports it, and the files that this commit lacks."""

import shutil
import subprocess
from pathlib import Path

from gsm8k_grpo.runtime.imports import PACKAGE

PROJECT = PACKAGE.parents[1]
PARTS = ("Snakefile", "dvc.yaml", "envs", "params.yaml", "profiles", "workflow")  # what shapes a run
GENERATED = ("__pycache__/", "*.egg-info/")


def commit(project: Path = PROJECT) -> str:
    """The commit of the project, with `-dirty` at its end if tracked files have changed.

    New files that shape a run, such as a recipe, follow in brackets, since the commit lacks them.  If there is no
    commit, the text is `unknown` with the reason.
    """
    if shutil.which("git") is None:
        return "unknown (git is not installed)"
    described = _git(project, "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*")
    if described.returncode:
        return f"unknown ({_reason(described.stderr)})"
    if not _git(project, "ls-files", "--", f"workflow/{PACKAGE.name}").stdout:
        return f"unknown (the repository around {project} does not hold its code)"
    ignored = [f"--exclude={pattern}" for pattern in GENERATED]
    new = _git(project, "ls-files", "--others", *ignored, "--", *PARTS).stdout.splitlines()
    return described.stdout.strip() + (f" (without the new files {', '.join(new)})" if new else "")


def _git(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", "-C", str(project), *arguments], capture_output=True, text=True, check=False)


def _reason(error: str) -> str:
    """The first line of git's error."""
    return (error.strip().splitlines() or ["git failed without a message"])[0].removeprefix("fatal: ")
