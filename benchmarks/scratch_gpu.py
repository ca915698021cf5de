"""The recipe scratch-gpu as it is measured, for docs/benchmarks.md: in a fresh clone, on one CUDA card,

    python benchmarks/scratch_gpu.py              # the pipeline: nine minutes, ten are asked
    python benchmarks/scratch_gpu.py --control    # and after it the same training on a random reward

Prints the wall clock, the seconds of each stage, accuracies, comparisons, and what was asked of them.  Run again after
an interruption, it goes on; the wall clock is then that of the rest.  Arguments after these go to Snakemake, such as
`results/evaluate/base/metrics.json` to look at the base model alone.
"""

import base64
import json
import subprocess
import sys
import time
from pathlib import Path

SETTINGS = ["recipe=scratch-gpu", "keep_checkpoints=[]"]
CONTROL = 'variants={"control": {"epochs": 3, "rewards": {"set": "control", "weights": {"random": 1.0}}}}'
RESULTS = Path("results")


def pipeline(targets: list[str], settings: list[str]) -> float:
    """Seconds of a run of Snakemake."""
    began = time.perf_counter()
    subprocess.run(["snakemake", "--cores", "1", *targets, "--config", *settings], check=True)
    return time.perf_counter() - began


def stages() -> dict[str, float]:
    """Seconds of each job, start-up included: Snakemake keeps them of every file made; a job is known by its log."""
    jobs: dict[str, tuple[float, float]] = {}
    for path in Path(".snakemake/metadata").iterdir():
        if path.is_file() and Path(base64.urlsafe_b64decode(path.name).decode()).exists():
            kept = json.loads(path.read_bytes())
            jobs[kept["log"][0].removeprefix("logs/").removesuffix(".log")] = kept["starttime"], kept["endtime"]
    return {name: end - start for name, (start, end) in sorted(jobs.items(), key=lambda job: job[1])}


def print_stages(wall_clock: float) -> None:
    print("\n| stage | seconds |\n|---|---|")
    for name, seconds in stages().items():
        print(f"| {name} | {seconds:.1f} |")
    print(f"| wall clock of this run | {wall_clock:.1f} |")


def print_work() -> None:
    """What the stages say of their own time: pretraining, generating, updating."""
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
    """Every difference in points, and whether it is what was asked for."""
    rows = json.loads((RESULTS / "compare" / "comparison.json").read_bytes())
    print("\n| a | b | metric | points | 95 % | p | asked |\n|---|---|---|---|---|---|---|")
    for row in rows:
        low, high = (100 * bound for bound in row["ci95"])
        figures = f"{100 * row['difference']:+.1f} | {low:+.1f} to {high:+.1f} | {row['p_value']:.1g}"
        print(f"| {row['a']} | {row['b']} | {row['metric']} | {figures} | {asked(row)} |")


def asked(row: dict) -> str:
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
    arguments = sys.argv[1:]
    settings = SETTINGS + ([CONTROL] if "--control" in arguments else [])
    targets = [argument for argument in arguments if argument != "--control"] or ["report"]
    wall_clock = pipeline(targets, settings)
    print_stages(wall_clock)
    print_work()
    print_accuracies()
    if targets == ["report"]:
        print_comparison()


if __name__ == "__main__":
    main()
