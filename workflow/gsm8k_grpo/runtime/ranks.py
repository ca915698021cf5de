"""A command in several processes, one rank for each GPU, which are started here and end together."""

import atexit
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Protocol

from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.runtime import interrupts, nodes
from gsm8k_grpo.runtime.gpus import VISIBLE

POLL_SECONDS = 0.2
# After a rank has failed: the seconds in which the others may fail by themselves, and then may end when asked to.
GRACE_SECONDS, END_SECONDS = 5.0, 20.0
# Slurm signals the ranks of a job that it ends, and the process that started them passes the same signal on to them.
# Within so many seconds both count as one.
REPEATED_SECONDS = 60.0
LEFT_ALONE = 3  # exit status of a rank that ended because another one did; the message names that other one
# Environment variables of a rank.  PyTorch's own, RANK and WORLD_SIZE, may also be set by what started this process.
NUMBER, COUNT, NODES = "GSM8K_GRPO_RANK", "GSM8K_GRPO_RANKS", "GSM8K_GRPO_NODES"


def inside() -> bool:
    """Whether this process is a rank."""
    return NUMBER in os.environ


def rank() -> int:
    """The number of this rank; 0 in a process that works alone."""
    return int(os.environ.get(NUMBER, 0))


def count() -> int:
    """The number of ranks that work together; 1 in a process that works alone."""
    return int(os.environ.get(COUNT, 1))


def on_nodes() -> bool:
    """Whether this process is a rank of a group on several nodes, each of which has its own GPUs."""
    return NODES in os.environ


@contextmanager
def together() -> Iterator[None]:
    """Wrap what a rank does together with the others, so that it ends if another one has ended.

    Raises:
        SystemExit: with `LEFT_ALONE` and no message, since the process that started the ranks says which one ended.
    """
    if on_nodes():
        interrupts.Listener.burst = REPEATED_SECONDS
    try:
        yield
        atexit.register(leave_group)
    except RuntimeError as error:
        from torch.distributed import DistError

        if isinstance(error, DistError) or "gloo" in str(error):
            raise SystemExit(LEFT_ALONE) from error
        raise


def leave_group() -> None:
    """Leave the process group that this process has joined, if any; PyTorch warns if NCCL's is left open."""
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


def run(ranks: int, hosts: Sequence[str] = ()) -> None:
    """Run this process's command again, in several ranks, and wait for their end.

    If this process may use GPUs, each rank sees one of them.  Rank 0 has the terminal; what another rank prints is
    shown only if it fails.  A signal goes to all ranks, which save a checkpoint and end.

    Args:
        ranks: the number of ranks.
        hosts: the nodes of the Slurm job that this process belongs to, on which the ranks run.  With fewer than two
            nodes they run on this machine.

    Raises:
        PipelineError: if a rank failed, with its number and the last line that it printed, or if the ranks can't be
            divided equally among the nodes.
        SystemExit: if rank 0 failed, which has already said why.
        Interrupted: after a signal.
    """
    started = _on_nodes(ranks, hosts) if len(hosts) > 1 else _on_this_machine(ranks)
    with interrupts.deferred() as request, started as group:
        try:
            failed = _wait(group, request)
        finally:
            _end(group)
        request.obey()
        codes = group.codes()
        if failed is None:  # ranks that lost each other, although none failed first, have no result either
            failed = next((rank for rank, code in enumerate(codes) if code), None)
        if failed is None:
            return
        if codes[0] and codes[0] > 0 and codes[0] != LEFT_ALONE:
            sys.exit(codes[0])
        raise PipelineError(_reason(failed, codes[failed] or 0, group))


class Group(Protocol):
    """Ranks that were started."""

    ranks: int

    def codes(self) -> list[int | None]:
        """The exit status of each rank, negative for a signal; None for a rank that still runs."""

    def send(self, signum: int) -> None:
        """Send a signal to all ranks that still run."""

    def last_line(self, rank: int) -> str:
        """The last line that a rank has printed; empty for rank 0, which prints to the terminal."""


class Processes:
    """Ranks on this machine.

    Args:
        outputs: for each rank, the file that it prints to; None for the terminal.
    """

    def __init__(self, outputs: list[IO[bytes] | None]):
        self.ranks, self.outputs = len(outputs), outputs
        starts = zip(_environments(self.ranks), outputs, strict=True)
        self.processes = [_start(environment, output) for environment, output in starts]

    def codes(self) -> list[int | None]:
        return [process.poll() for process in self.processes]

    def send(self, signum: int) -> None:
        for process in self.processes:
            process.send_signal(signum)  # does nothing if the process has ended

    def last_line(self, rank: int) -> str:
        output = self.outputs[rank]
        if output is None:
            return ""
        output.seek(0)
        lines = output.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""


@contextmanager
def _on_this_machine(ranks: int) -> Iterator[Group]:
    with ExitStack() as opened:
        yield Processes([None, *(opened.enter_context(tempfile.TemporaryFile()) for _ in range(1, ranks))])


@contextmanager
def _on_nodes(ranks: int, hosts: Sequence[str]) -> Iterator[Group]:
    if ranks % len(hosts):
        raise PipelineError(
            f"gpus = {ranks}: the job has {len(hosts)} nodes ({', '.join(hosts)}), and each runs as many ranks; ask "
            "for another number of nodes, or set gpus to a multiple of it"
        )
    # A folder in the working folder, which all nodes share.
    with tempfile.TemporaryDirectory(prefix="ranks-", dir=".work") as folder:
        variables = _common(ranks, hosts[0]) | {NODES: str(len(hosts))}
        yield nodes.Step(_command(), ranks, len(hosts), variables, NUMBER, Path(folder).resolve())


def _common(ranks: int, address: str) -> dict[str, str]:
    """The environment variables of all ranks, with those that PyTorch reads; rank 0 listens at `address`.

    The port is free on this machine, which is also the first node of a batch job of Slurm.
    """
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    return {
        "WORLD_SIZE": str(ranks), COUNT: str(ranks), "LOCAL_RANK": "0",
        "MASTER_ADDR": address, "MASTER_PORT": str(port),
    }  # fmt: skip


def _environments(ranks: int) -> list[dict[str, str]]:
    """The environment variables of each rank on this machine, with the only GPU that it sees."""
    common = _common(ranks, "127.0.0.1")
    gpus = os.environ.get(VISIBLE, "").split(",")
    seen = [{VISIBLE: gpu} for gpu in gpus[:ranks]] if len(gpus) >= ranks else [{}] * ranks
    numbers = ({"RANK": str(index), NUMBER: str(index)} for index in range(ranks))
    return [common | number | own for number, own in zip(numbers, seen, strict=True)]


def _command() -> list[str]:
    return [sys.executable, "-m", "gsm8k_grpo", *sys.argv[1:]]


def _start(environment: Mapping[str, str], output: IO[bytes] | None) -> subprocess.Popen[bytes]:
    """Start a rank, which ends with this process, in a session of its own, so that Ctrl-C reaches it only once."""
    return subprocess.Popen(
        ["setpriv", "--pdeathsig", "TERM", *_command()], env={**os.environ, **environment}, stdout=output,
        stderr=output and subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


def _wait(group: Group, request: interrupts.Request) -> int | None:
    """Wait until all ranks have ended or one has failed; returns the first one that failed, if any."""
    passed_on = False
    while None in (codes := group.codes()):
        if request.signum is not None and not passed_on:
            passed_on = True
            group.send(request.signum)
        failed = _failed(codes)
        if failed is not None and not passed_on:
            return failed
        time.sleep(POLL_SECONDS)
    return None if passed_on else _failed(codes)


def _failed(codes: list[int | None]) -> int | None:
    return next((rank for rank, code in enumerate(codes) if code not in (None, 0, LEFT_ALONE)), None)


def _end(group: Group) -> None:
    """Let ranks end by themselves, ask those that still run to end, and kill those that do not."""
    for seconds, signum in ((GRACE_SECONDS, signal.SIGTERM), (END_SECONDS, signal.SIGKILL)):
        end = time.monotonic() + seconds
        while None in group.codes() and time.monotonic() < end:
            time.sleep(POLL_SECONDS)
        if None in group.codes():
            group.send(signum)
    while None in group.codes():
        time.sleep(POLL_SECONDS)


def _reason(failed: int, code: int, group: Group) -> str:
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"failed with exit status {code}"
    line = group.last_line(failed)
    said = f": {line.removeprefix('error: ')}" if line else ""
    return (
        f"rank {failed} of {group.ranks} {how}, so the others were stopped{said}; repeat the command, which goes on "
        "from the last checkpoint"
    )
