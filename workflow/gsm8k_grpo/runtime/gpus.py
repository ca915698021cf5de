"""One job per GPU: a job claims a GPU that no other job has claimed, and holds it until its process ends."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.runtime import locks

# One folder for each user of a machine, since working folders share its GPUs.
FOLDER = Path(tempfile.gettempdir()) / f"gsm8k-grpo-{os.getuid()}" / "gpus"
VISIBLE = "CUDA_VISIBLE_DEVICES"
POLL_SECONDS = 1.0


@contextmanager
def claimed(count: int = 1) -> Iterator[None]:
    """Hold GPUs that no other job holds, and let CUDA see only these; does nothing on a machine without a GPU.

    Enter it before anything starts CUDA, which reads CUDA_VISIBLE_DEVICES once.  Waits until enough GPUs are free, and
    then takes all at once, so that two jobs never wait for each other.  The kernel frees the locks of a process that
    ends in any way.

    Args:
        count: the number of GPUs that the job uses.

    Raises:
        PipelineError: if this process may use fewer GPUs.
    """
    gpus = usable()
    if not gpus:
        yield
        return
    if count > len(gpus):
        raise PipelineError(f"the job uses {count} GPUs, and only {len(gpus)} can be used: {', '.join(gpus)}")
    FOLDER.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as held:
        names = _wait(count, gpus, held)
        # CUDA numbers GPUs by their speed, unless it is told to number them by their slots, as nvidia-smi does.
        os.environ |= {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", VISIBLE: ",".join(names)}
        if len(gpus) > 1:
            print(f"on GPU {', '.join(names)} of {', '.join(gpus)}", file=sys.stderr)
        yield


def usable() -> dict[str, str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them, each with its UUID.

    Where CUDA_VISIBLE_DEVICES is set, for example by Slurm, it limits them.  It may hold nvidia-smi's numbers, UUIDs,
    the first characters of UUIDs, or parts of a GPU (MIG).  As in CUDA, entries after one that names no GPU do not
    count.  The names are numbers where possible, because vLLM expects numbers.
    """
    gpus = _listed()
    outer = os.environ.get(VISIBLE)
    if not gpus or outer is None:
        return gpus
    chosen: dict[str, str] = {}
    for entry in map(str.strip, outer.split(",")):
        if entry.startswith("MIG-"):
            chosen[entry] = entry
            continue
        number = entry if entry in gpus else next((n for n, u in gpus.items() if entry and u.startswith(entry)), None)
        if number is None:
            break
        chosen[number] = gpus[number]
    return chosen


def _listed() -> dict[str, str]:
    """The UUID of every GPU that nvidia-smi lists, by its number."""
    if shutil.which("nvidia-smi") is None:
        return {}
    query = ["nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader"]
    listing = subprocess.run(query, capture_output=True, text=True, check=False)
    if listing.returncode:
        return {}  # there is a driver, but no GPU
    return dict(line.split(", ") for line in listing.stdout.splitlines())


def _wait(count: int, gpus: dict[str, str], held: ExitStack) -> list[str]:
    """Wait until `count` GPUs are free, and return their names; `held` then holds their locks."""
    told = False
    while True:
        with locks.lock("choosing", FOLDER), ExitStack() as free:
            names: list[str] = []
            for name, uuid in gpus.items():
                lock = locks.lock(uuid, FOLDER)
                if len(names) < count and locks.take(lock, seconds=0):
                    free.callback(lock.release)
                    names.append(name)
            if len(names) == count:
                held.enter_context(free.pop_all())
                return names
        if not told:
            print(f"waiting for {count} of GPU {', '.join(gpus)}, which other jobs use", file=sys.stderr)
            told = True
        time.sleep(POLL_SECONDS)
