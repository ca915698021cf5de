"""The state of the code, as git knows it."""

import shutil
import subprocess


def commit() -> str:
    """The commit of the working tree, with `-dirty` where it has changes; `unknown` where git knows none."""
    if shutil.which("git") is None:
        return "unknown"
    described = subprocess.run(
        ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"], capture_output=True, text=True
    )
    return described.stdout.strip() if described.returncode == 0 else "unknown"
