"""The commit of the code, as git reports it."""

import shutil
import subprocess


def commit() -> str:
    """The commit of the working tree, ending in `-dirty` if files have changed; `unknown` without git or outside of a
    repository.
    """
    if shutil.which("git") is None:
        return "unknown"
    described = subprocess.run(
        ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"], capture_output=True, text=True
    )
    return described.stdout.strip() if described.returncode == 0 else "unknown"
