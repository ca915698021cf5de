"""One training in several processes, a rank for each GPU: started here, and ended together."""

import atexit
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import IO

from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.runtime import interrupts
from gsm8k_grpo.runtime.gpus import VISIBLE

POLL_SECONDS = 0.2
# After a rank failed: how long the others may take to fail by themselves, and then to end when they are asked to.
GRACE_SECONDS, END_SECONDS = 5.0, 20.0
LEFT_ALONE = 3  # exit status of a rank that another one left, which is the one to name
# Variables of a rank.  PyTorch's own, RANK and WORLD_SIZE, may also be set by what started this process.
NUMBER, COUNT = "GSM8K_GRPO_RANK", "GSM8K_GRPO_RANKS"


def inside() -> bool:
    """Whether this process is a rank."""
    return NUMBER in os.environ


def rank() -> int:
    """The number of this rank; 0 in a process that trains alone."""
    return int(os.environ.get(NUMBER, 0))


def count() -> int:
    """How many ranks train together; 1 in a process that trains alone."""
    return int(os.environ.get(COUNT, 1))


@contextmanager
def together() -> Iterator[None]:
    """Wrap what a rank does together with the others: if one of those has ended, it ends, too.

    Raises:
        SystemExit: with `LEFT_ALONE`, without a word, since the process that started the ranks says which ended.
    """
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


def run(ranks: int) -> None:
    """Run this process's command again, as so many ranks, and wait for their end.

    Each rank sees one of the GPUs that this process may use, where it may use any.  Rank 0 has the terminal; what the
    others print is shown only if one of them fails.  A signal goes to all ranks, which save a checkpoint and end.

    Raises:
        PipelineError: if a rank failed, with its number and the last line that it printed.
        SystemExit: if rank 0 failed, which has said why.
        Interrupted: after a signal.
    """
    with ExitStack() as opened:
        outputs = [None, *(opened.enter_context(tempfile.TemporaryFile()) for _ in range(1, ranks))]
        with interrupts.deferred() as request:
            processes = [_start(own, output) for own, output in zip(_environments(ranks), outputs, strict=True)]
            try:
                failed = _wait(processes, request)
            finally:
                _end(processes)
        request.obey()
        if failed is None:  # ranks that lost each other, without one that failed first, have no result either
            failed = next((rank for rank, process in enumerate(processes) if process.returncode), None)
        if failed is None:
            return
        code = processes[0].returncode
        if code > 0 and code != LEFT_ALONE:
            sys.exit(code)
        raise PipelineError(_reason(failed, processes, outputs[failed]))


def _environments(ranks: int) -> list[dict[str, str]]:
    """The variables of each rank, also under the names that PyTorch reads, and the GPU that it sees as its only one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": str(ranks), COUNT: str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    gpus = os.environ.get(VISIBLE, "").split(",")
    seen = [{VISIBLE: gpu} for gpu in gpus[:ranks]] if len(gpus) >= ranks else [{}] * ranks
    numbers = ({"RANK": str(index), NUMBER: str(index), "LOCAL_RANK": "0"} for index in range(ranks))
    return [common | number | own for number, own in zip(numbers, seen, strict=True)]


def _start(environment: Mapping[str, str], output: IO[bytes] | None) -> subprocess.Popen[bytes]:
    """A rank, in a session of its own so that Ctrl-C reaches it once, by way of this process, with which it ends."""
    command = ["setpriv", "--pdeathsig", "TERM", sys.executable, "-m", "gsm8k_grpo", *sys.argv[1:]]
    return subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=output, stderr=output and subprocess.STDOUT,
        stdin=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


def _wait(processes: list[subprocess.Popen[bytes]], request: interrupts.Request) -> int | None:
    """Wait until all ranks have ended, or one has failed; returns the first that failed, if any."""
    passed_on = False
    while any(process.poll() is None for process in processes):
        if request.signum is not None and not passed_on:
            passed_on = True
            for process in processes:
                process.send_signal(request.signum)
        failed = _failed(processes)
        if failed is not None and not passed_on:
            return failed
        time.sleep(POLL_SECONDS)
    return None if passed_on else _failed(processes)


def _failed(processes: list[subprocess.Popen[bytes]]) -> int | None:
    return next((rank for rank, process in enumerate(processes) if process.poll() not in (None, 0, LEFT_ALONE)), None)


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    """Wait for ranks that end by themselves, ask the others, and kill those that wait for one that has ended."""
    for seconds, signum in ((GRACE_SECONDS, signal.SIGTERM), (END_SECONDS, signal.SIGKILL)):
        end = time.monotonic() + seconds
        while any(process.poll() is None for process in processes) and time.monotonic() < end:
            time.sleep(POLL_SECONDS)
        for process in processes:
            if process.poll() is None:
                process.send_signal(signum)
    for process in processes:
        process.wait()


def _reason(failed: int, processes: list[subprocess.Popen[bytes]], output: IO[bytes] | None) -> str:
    code = processes[failed].returncode
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"failed with exit status {code}"
    said = ""
    if output is not None:
        output.seek(0)
        lines = output.read().decode(errors="replace").strip().splitlines()
        said = f": {lines[-1].removeprefix('error: ')}" if lines else ""
    return (
        f"rank {failed} of {len(processes)} {how}, so the others were stopped{said}; repeat the command, which goes on "
        "from the last checkpoint"
    )
