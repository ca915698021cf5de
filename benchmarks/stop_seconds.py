"""How many seconds after SIGTERM has a training ended, on a machine whose cores others use, too?

    python benchmarks/stop_seconds.py --tries 14 --busy 4

Makes the data and the base model of `params.yaml` in a folder of its own.  Then it starts the training of the variant
`short` again and again and sends SIGTERM at a random moment: of the training, or of the imports before it.  Meanwhile
as many processes as `--busy` compute.  It prints the seconds of each try, the newest checkpoint and the last line.
"""

import argparse
import multiprocessing
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/helpers"))
import small_run  # noqa: E402  from the folder above

IMPORTS = 0.2  # the share of the tries whose signal comes before training, while libraries are imported
LONGEST_IMPORT, LONGEST_TRAINING = 8.0, 20.0  # seconds in which the moments lie
TARGET = 10.0


def compute() -> None:
    """Keep a core busy."""
    while True:
        sum(range(100_000))


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start `gsm8k-grpo` with the code of the folder."""
    return subprocess.Popen(
        [small_run.COMMAND, *arguments], cwd=folder, env=small_run.own_code(folder), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def prepare(folder: Path) -> None:
    """Make everything that training reads."""
    small_run.checkout(folder)
    for stage in ("download", "extract", "base"):
        process = start(folder, stage)
        said = process.communicate()[0]
        if process.returncode:
            sys.exit(f"error: {stage} failed: {said}")


def stop(folder: Path, moment: float, in_training: bool) -> tuple[float, str]:
    """Start a new training, send SIGTERM that many seconds after its start or its first step, and wait for its end.

    Returns:
        the seconds from the signal to the end, and the last line.
    """
    for left in ("checkpoints", "results/train"):
        shutil.rmtree(folder / left, ignore_errors=True)
    process = start(folder, "train", "--variant", "short")
    assert process.stdout is not None
    while in_training and "0 of 250 steps" not in process.stdout.readline():
        pass
    time.sleep(moment)
    process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    said = process.communicate()[0].splitlines()
    return time.monotonic() - began, said[-1] if said else f"ended with {process.returncode}"


def newest(folder: Path) -> str:
    """The name of the newest checkpoint."""
    paths = folder.glob("checkpoints/short-*/checkpoint-*")
    return max((path.name for path in paths), key=lambda name: int(name.split("-")[1]), default="no checkpoint")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=14)
    parser.add_argument("--busy", type=int, default=4, help="processes that compute at the same time")
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    parser.add_argument("--folder", type=Path, default=ROOT / ".work/stop-seconds", help="made, or used again")
    options = parser.parse_args()
    folder, chance = options.folder.resolve(), random.Random(options.seed)
    if not (folder / "results/base/base.json").exists():
        prepare(folder)
    for _ in range(options.busy):
        multiprocessing.Process(target=compute, daemon=True).start()
    taken = []
    for number in range(1, options.tries + 1):
        in_training = chance.random() >= IMPORTS
        moment = chance.uniform(0, LONGEST_TRAINING if in_training else LONGEST_IMPORT)
        seconds, said = stop(folder, moment, in_training)
        taken.append(seconds)
        when = "training" if in_training else "imports"
        print(f"{number}: {seconds:.1f} s, in {when} at {moment:.1f} s; {newest(folder)}; {said}", flush=True)
    within = sum(seconds <= TARGET for seconds in taken)
    print(f"longest {max(taken):.1f} s; {within} of {len(taken)} within {TARGET:.0f} s")


if __name__ == "__main__":
    main()
