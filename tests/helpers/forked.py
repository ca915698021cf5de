"""`gsm8k-grpo` in a fork of a process that has imported its libraries: most of a short stage's time is their import.

Everything else is as in a new process: arguments, working folder, output, exit status.
"""

import atexit
import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from project import COMMAND

STAGES = ("base", "train", "evaluate", "compare", "card", "report")
LIBRARIES = [*(f"gsm8k_grpo.stages.{stage}.stage" for stage in STAGES), "gsm8k_grpo.stages.train.grpo.building"]
ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "PYTEST_CURRENT_TEST"}

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(LIBRARIES)


def usable() -> bool:
    """Whether a fork would behave like a new process: libraries read variables of the environment at their import."""
    changed = {key: value for key, value in os.environ.items() if key != "PYTEST_CURRENT_TEST"} != ENVIRONMENT
    return not changed and not Path("/dev/nvidiactl").exists()  # CUDA does not survive a fork


def run(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run `gsm8k-grpo` with arguments in a folder."""
    with tempfile.TemporaryDirectory() as place:
        files = [str(Path(place, name)) for name in ("stdout", "stderr")]
        process = _processes.Process(target=_command, args=(arguments, str(folder), files))
        process.start()
        process.join()
        stdout, stderr = (Path(file).read_text() for file in files)
    assert process.exitcode is not None
    return subprocess.CompletedProcess([str(COMMAND), *arguments], process.exitcode, stdout, stderr)


def _command(arguments: list[str], folder: str, files: list[str]) -> None:
    for descriptor, file in zip((1, 2), files, strict=True):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), descriptor)
    os.chdir(folder)
    sys.argv = [str(COMMAND), *arguments]
    from gsm8k_grpo import cli

    try:
        cli.main()
    finally:
        atexit._run_exitfuncs()  # which multiprocessing leaves out
        sys.stdout.flush()
