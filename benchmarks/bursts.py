"""Does Snakemake, with the project's rules for processes, end on a burst of SIGTERM that comes while jobs end?

    python benchmarks/bursts.py --bursts 200

The kernel sends a signal for each thread of a parent that dies, so a burst is what a killed DVC looks like to
Snakemake.  Each time jobs of a tenth of a second run four at once, so that some job ends nearly always; at a random
moment Snakemake gets eight SIGTERM within a few milliseconds.  Counted are the runs that have not ended 15 seconds
later, and those that leave a job behind.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
BOUND = 15.0
SIGNALS = 8
JOBS = 60
SNAKEFILE = f"""
include: "{ROOT}/workflow/rules/processes.smk"
rule all:
    default_target: True
    input: expand("{{number}}.txt", number=range({JOBS}))
rule job:
    output: "{{number}}.txt"
    shell: "bash -c 'sleep 0.1; touch {{output}}'"
"""


def burst(folder: Path, moment: float) -> str:
    """Start Snakemake, send the signals that many seconds after its first job, and say what came of it."""
    (folder / "Snakefile").write_text(SNAKEFILE, encoding="utf-8")
    process = subprocess.Popen(
        [Path(sys.executable).with_name("snakemake"), "--cores", "4", "--nolock"],
        cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT / "workflow")}, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while process.poll() is None and not psutil.Process(process.pid).children():
        time.sleep(0.01)
    time.sleep(moment)
    children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    for _ in range(SIGNALS):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.001)
    try:
        status = process.wait(BOUND)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return "hung"
    _, alive = psutil.wait_procs(children, timeout=BOUND)
    if alive:
        return "left a job behind"
    return "had ended before" if status == 0 else "ended"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bursts", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    options = parser.parse_args(arguments)
    chance, outcomes = random.Random(options.seed), dict.fromkeys(("ended", "hung", "left a job behind"), 0)
    while sum(outcomes.values()) < options.bursts:
        with tempfile.TemporaryDirectory() as folder:
            outcome = burst(Path(folder), chance.uniform(0, JOBS * 0.1 / 4))
        if outcome in outcomes:
            outcomes[outcome] += 1
            print(outcomes, end="\r", flush=True)
    print(outcomes)
    return int(outcomes["ended"] < options.bursts)


if __name__ == "__main__":
    sys.exit(main())
