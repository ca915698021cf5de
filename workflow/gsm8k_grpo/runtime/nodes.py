"""Ranks on several nodes: one step of the Slurm job that this process belongs to, with as many ranks on each node.

Slurm starts the ranks and ends them with the job.  What it reports about them is read from the error output of `srun`,
which names each failed rank as soon as it has ended, with its exit status or signal.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from gsm8k_grpo.files import PipelineError

JOB, LIST = "SLURM_JOB_ID", "SLURM_JOB_NODELIST"
# What each task of the step runs: it sets the number of the rank, redirects its output, and becomes the rank.  Rank 0
# notes the number of the step, and writes to srun's standard output, so that srun's error output holds only its own.
TASK = """
export RANK=$SLURM_PROCID {number}=$SLURM_PROCID
if [ "$RANK" = 0 ]; then
  echo "$SLURM_JOB_ID.$SLURM_STEP_ID" >"$0/step"
  exec 2>&1
else
  exec >"$0/$RANK" 2>&1
fi
exec "$@"
"""
FAILED = re.compile(r"^srun: error: \S+: tasks? ([\d,-]+): (.+)\n", re.MULTILINE)
EXITED = "Exited with exit code "


def of_job() -> list[str]:
    """The names, in order, of the nodes of the Slurm job that this process belongs to; an empty list outside of a job.

    Raises:
        PipelineError: if Slurm does not tell their names.
    """
    if JOB not in os.environ:
        return []
    # Snakemake's plugin for Slurm removes the list of nodes from the environment.
    listed = os.environ.get(LIST) or _slurm("squeue", "--noheader", "--jobs", os.environ[JOB], "--format=%N")
    return _slurm("scontrol", "show", "hostnames", listed).split()


class Step:
    """The ranks of a command, as one step on all nodes of the job.

    Args:
        command: what each rank runs.
        ranks: the number of ranks, a multiple of the number of nodes.
        nodes: the number of nodes that the job has.
        variables: environment variables of all ranks.
        number: the name of a variable that holds the number of a rank, as RANK does.
        folder: an empty folder that all nodes share, for what the ranks print.
    """

    def __init__(
        self, command: list[str], ranks: int, nodes: int, variables: Mapping[str, str], number: str, folder: Path
    ) -> None:
        self.ranks, self.folder, self.stopped = ranks, folder, False
        # Each rank may use all CPUs and GPUs that the job has on its node.  If a rank fails, Slurm does not end the
        # others at once: they end by themselves, and rank 0 records that the run failed.
        options = [
            f"--ntasks={ranks}", f"--ntasks-per-node={ranks // nodes}", f"--nodes={nodes}", "--overlap",
            "--cpu-bind=none", "--kill-on-bad-exit=0", "--wait=0", "--export=ALL", "--job-name=ranks",
        ]  # fmt: skip
        with (self.folder / "srun").open("wb") as errors:
            self.process = subprocess.Popen(
                ["srun", *options, "sh", "-c", TASK.format(number=number), str(self.folder), *command],
                env={**os.environ, **variables}, stdin=subprocess.DEVNULL, stdout=sys.stderr.fileno(), stderr=errors,
                start_new_session=True,
            )  # fmt: skip

    def codes(self) -> list[int | None]:
        """The exit status of each rank, negative for a signal; None for a rank that still runs.

        Ranks that succeeded count as running until all have ended.

        Raises:
            PipelineError: if srun failed without naming any rank, for example because it could not start them.
        """
        ended = self.process.poll()
        said = self._errors()
        failed = {rank: _code(how) for tasks, how in FAILED.findall(said) for rank in _numbers(tasks)}
        if ended and not failed and not self.stopped:
            raise PipelineError(f"srun could not run the {self.ranks} ranks: {_last(said)}")
        others = 0 if ended and failed else ended
        return [failed.get(rank, others) for rank in range(self.ranks)]

    def send(self, signum: int) -> None:
        """Send a signal to all ranks; srun can't pass on SIGTERM, so it gets the signal only if no rank has started."""
        self.stopped = True
        step = _text(self.folder / "step").strip()
        if step:
            # scancel fails if all ranks have just ended.
            subprocess.run(["scancel", f"--signal={signum}", step], check=False, capture_output=True)
        else:
            self.process.send_signal(signum)

    def last_line(self, rank: int) -> str:
        return _last(_text(self.folder / str(rank))) if rank else ""

    def _errors(self) -> str:
        return _text(self.folder / "srun")


def _slurm(*command: str) -> str:
    """What one of Slurm's commands prints."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PipelineError(f"Slurm does not say where this job runs: {' '.join(command)}: {_last(done.stderr)}")
    return done.stdout.strip()


def _numbers(tasks: str) -> list[int]:
    """The numbers in a list such as 0-2,5."""
    ranges = (part.partition("-") for part in tasks.split(","))
    return [number for first, _, last in ranges for number in range(int(first), int(last or first) + 1)]


def _code(how: str) -> int:
    """The exit status that Slurm describes; negative for a signal, which Slurm names as `signal.strsignal` does."""
    if how.startswith(EXITED):
        return int(how.removeprefix(EXITED))
    names = {signum: signal.strsignal(signum) for signum in signal.valid_signals()}
    return -next((signum for signum, name in names.items() if name and how.startswith(name)), signal.SIGKILL)


def _text(path: Path) -> str:
    """The text of a file; empty if the file does not exist yet."""
    return path.read_text(errors="replace") if path.exists() else ""


def _last(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""
