"""The recipe scratch-gpu, measured for docs/benchmarks.md in a fresh clone on one CUDA GPU.

    python benchmarks/scratch_gpu.py              # the pipeline: about nine minutes, the target is ten
    python benchmarks/scratch_gpu.py --control    # the pipeline and the same training on a random reward

Prints the wall clock, the seconds of each stage, accuracies and comparisons with their targets.  After an interruption
the same command resumes; the wall clock then covers the rest only.  Further arguments go to Snakemake, such as
`results/evaluate/base/metrics.json` to look at the base model alone.
"""

import argparse
import base64
import json
import subprocess
import time
from pathlib import Path

SETTINGS = ["recipe=scratch-gpu", "keep_checkpoints=[]"]
CONTROL = 'variants={"control": {"epochs": 3, "rewards": {"set": "control", "weights": {"random": 1.0}}}}'
RESULTS = Path("results")


def pipeline(targets: list[str], settings: list[str]) -> float:
    """Run Snakemake; the seconds that it took."""
    began = time.perf_counter()
    subprocess.run(["snakemake", "--cores", "1", *targets, "--config", *settings], check=True)
    return time.perf_counter() - began


def stages() -> dict[str, float]:
    """Seconds of each job, start-up included, from what Snakemake records for every file; a job is named by its log."""
    jobs: dict[str, tuple[float, float]] = {}
    for path in Path(".snakemake/metadata").iterdir():
        if path.is_file() and Path(base64.urlsafe_b64decode(path.name).decode()).exists():
            record = json.loads(path.read_bytes())
            jobs[record["log"][0].removeprefix("logs/").removesuffix(".log")] = record["starttime"], record["endtime"]
    return {name: end - start for name, (start, end) in sorted(jobs.items(), key=lambda job: job[1])}


def print_stages(wall_clock: float) -> None:
    print("\n| stage | seconds |\n|---|---|")
    for name, seconds in stages().items():
        print(f"| {name} | {seconds:.1f} |")
    print(f"| wall clock of this run | {wall_clock:.1f} |")


def print_work() -> None:
    """The times that the stages report themselves: pretraining, generating, updating."""
    for path in [RESULTS / "base" / "metrics.json", *sorted(RESULTS.glob("train/*/metrics.json"))]:
        if path.exists():
            metrics = json.loads(path.read_bytes())
            shown = ("parameters", "vocabulary", "documents", "documents_cut", "loss", "steps", "tokens", "seconds")
            shown += ("seconds_generate", "seconds_score", "seconds_update", "seconds_saving", "peak_memory_gib")
            print(f"{path.parent}: {', '.join(f'{key} {metrics[key]}' for key in shown if key in metrics)}")


def print_accuracies() -> None:
    print("\n| model | strict | flexible | format | cut | tokens |\n|---|---|---|---|---|---|")
    for path in sorted(RESULTS.glob("evaluate/*/metrics.json")):
        metrics = json.loads(path.read_bytes())
        shares = (metrics[key] for key in ("strict_accuracy", "flexible_accuracy", "format_rate", "truncation_rate"))
        cells = [f"{100 * share:.1f} %" for share in shares] + [f"{metrics['mean_completion_tokens']:.1f}"]
        print(f"| {path.parent.name} | {' | '.join(cells)} |")


def print_comparison() -> None:
    """Every difference in points, and whether it meets its target."""
    rows = json.loads((RESULTS / "compare" / "comparison.json").read_bytes())
    print("\n| a | b | metric | points | 95 % | p | target |\n|---|---|---|---|---|---|---|")
    for row in rows:
        low, high = (100 * bound for bound in row["ci95"])
        figures = f"{100 * row['difference']:+.1f} | {low:+.1f} to {high:+.1f} | {row['p_value']:.1g}"
        print(f"| {row['a']} | {row['b']} | {row['metric']} | {figures} | {target(row)} |")


def target(row: dict) -> str:
    """The target of a comparison and whether it is met; empty without a target."""
    difference, p = row["difference"], row["p_value"]
    match row["a"], row["b"], row["metric"]:
        case "base", "full", "strict_accuracy":
            return f"+20, p < 0.001: {difference >= 0.2 and p < 0.001}"
        case "base", "full", "flexible_accuracy":
            return f"up, p < 0.05: {difference > 0 and p < 0.05}"
        case "base", "short", "strict_accuracy":
            return f"+10, p < 0.001: {difference >= 0.1 and p < 0.001}"
        case "base", "control", _:
            return f"no significant gain: {not (difference > 0 and p < 0.05)}"
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--control", action="store_true", help="also train and evaluate on a random reward")
    options, for_snakemake = parser.parse_known_args()
    settings = SETTINGS + ([CONTROL] if options.control else [])
    targets = for_snakemake or ["report"]
    wall_clock = pipeline(targets, settings)
    print_stages(wall_clock)
    print_work()
    print_accuracies()
    if targets == ["report"]:
        print_comparison()


if __name__ == "__main__":
    main()
