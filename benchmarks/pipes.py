"""Do the documented commands survive readers that go away?

    python benchmarks/pipes.py               # in a working folder with the results of `make report`
    python benchmarks/pipes.py --only dvc

Every command of README and docs that ends by itself within a minute runs in five ways: into `head -n 0`, which reads
nothing, into `grep -m1`, which goes after the first line, with a closed output, on a terminal of 60 columns, and twice
at once.  A row of the table has the command's exit status of each; it should succeed and print no traceback.
"""

import argparse
import os
import shlex
import subprocess
from pathlib import Path

SECONDS = 180
# Stages by hand come last: they renew files, after which Snakemake has something to do.
COMMANDS = [
    "snakemake -n report", "snakemake --cores 1 report", "snakemake --lint", "make -n report",
    "dvc status", "dvc stage list", "dvc exp show --only-changed",
    "gsm8k-grpo --help", "gsm8k-grpo evaluate --help", "gsm8k-grpo configure --print", "gsm8k-grpo summary",
    "gsm8k-grpo ask 'Ann has 3 hats.  Ann buys 4 more.  How many hats?'", "gsm8k-grpo checkpoints",
    "gsm8k-grpo plan --gpu-gib 24", "gsm8k-grpo plan --set recipe=rtx4090", "gsm8k-grpo doctor", "gsm8k-grpo view",
    "gsm8k-grpo track", "gsm8k-grpo sync", "gsm8k-grpo set-aside", "gsm8k-grpo configure", "gsm8k-grpo download",
    "gsm8k-grpo extract", "gsm8k-grpo compare", "gsm8k-grpo card --variant short", "gsm8k-grpo report",
]  # fmt: skip
WAYS = {
    "head -n 0": "{command} | head -n 0; exit ${{PIPESTATUS[0]}}",
    "grep -m1": "{command} | grep -m1 . > /dev/null; exit ${{PIPESTATUS[0]}}",
    "closed": "{command} >&-",
    "60 columns": "script --quiet --return --command {quoted} /dev/null > /dev/null",
    "twice": "{command} > /dev/null & {command} > /dev/null && wait $!",
}


def outcome(command: str, way: str) -> str:
    """The exit status of the command, and what was wrong besides it."""
    script = WAYS[way].format(command=command, quoted=shlex.quote(command))
    try:
        done = subprocess.run(
            ["bash", "-c", script], env=os.environ | {"COLUMNS": "60"}, capture_output=True, text=True,
            stdin=subprocess.DEVNULL, timeout=SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"{SECONDS} s"
    faults = [word for word in ("Traceback", "BrokenPipe", "Bad file descriptor") if word in done.stderr]
    return " ".join([str(done.returncode), *faults])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="commands that contain this")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    options = parser.parse_args()
    if not Path("results/report/report.html").exists():
        parser.error("results/report/report.html is not here; run it after `make report`")
    print(f"| command | {' | '.join(options.ways)} |\n|---|{'---|' * len(options.ways)}")
    for command in COMMANDS:
        if options.only in command:
            print(f"| `{command}` | {' | '.join(outcome(command, way) for way in options.ways)} |", flush=True)


if __name__ == "__main__":
    main()
