"""`gsm8k-grpo` in a fork of a process that has imported its libraries: most of a short stage's time is their import.

Everything else is as in a new process: arguments, working folder, output, signals, exit status.  Variables of the
environment that a library reads at its import are those of the start of the tests.
"""

import atexit
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from project import COMMAND, heeding_interrupts

STAGES = ("base", "train", "evaluate", "compare", "card", "report")
LIBRARIES = [*(f"gsm8k_grpo.stages.{stage}.stage" for stage in STAGES), "gsm8k_grpo.stages.train.grpo.building"]
# CUDA does not survive a fork.
USABLE = not Path("/dev/nvidiactl").exists()

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(LIBRARIES)


class Forked:
    """A running command, in a session of its own, with the methods of `subprocess.Popen` that the tests use.

    Args:
        stderr: the name of its file; the same as standard output's puts both into one.
    """

    def __init__(self, arguments: list[str], folder: Path, stderr: str = "stderr"):
        self.args = [str(COMMAND), *arguments]
        self._place = tempfile.TemporaryDirectory()
        self.stdout, self.stderr = Path(self._place.name, "stdout"), Path(self._place.name, stderr)
        outputs = (str(self.stdout), str(self.stderr))
        self._process = _processes.Process(target=_command, args=(self.args, str(folder), outputs, dict(os.environ)))
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def send_signal(self, signum: int) -> None:
        os.kill(self.pid, signum)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self) -> tuple[str, str]:
        """Standard output and error, once the command has ended."""
        self._process.join()
        return self.stdout.read_text(), self.stderr.read_text()


def run(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run `gsm8k-grpo` with arguments in a folder."""
    forked = Forked(arguments, folder)
    stdout, stderr = forked.communicate()
    assert forked.returncode is not None
    return subprocess.CompletedProcess(forked.args, forked.returncode, stdout, stderr)


def _command(arguments: list[str], folder: str, outputs: tuple[str, str], environment: dict[str, str]) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    heeding_interrupts()
    for descriptor, file in zip((1, 2), outputs, strict=True):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    os.chdir(folder)
    sys.argv = arguments
    from gsm8k_grpo import cli

    try:
        cli.main()
    finally:
        atexit._run_exitfuncs()  # which multiprocessing leaves out
        sys.stdout.flush()
