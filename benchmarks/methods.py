"""Do the methods that learn from rewards differ, from the same start on the same prompts?

    python benchmarks/methods.py --out methods.json                                     # tiny, without a GPU
    python benchmarks/methods.py --recipe scratch-gpu --seeds 43 44 --out methods.json  # on one CUDA GPU
    python benchmarks/methods.py --methods grpo rloo --rate rloo=1e-4 --set train.epsilon=0.1
    python benchmarks/methods.py --search 0.5 1 2 4 --seeds 43 44 --out methods.json    # with a search for the rates

Every method that learns from rewards is trained with each seed for the same number of steps of the same size, with its
own learning rate (`--rate METHOD=RATE`) or the recipe's, and answers the whole test split.  `--start sft` trains them
from a variant of that name, which the recipe has.  The order of the prompts depends on the seed alone.

`--search FACTOR ...` first trains every method with the first seed at each of these multiples of its learning rate.
The runs with all seeds then have the rate after which most validation questions are answered right (flexibly), the
lower one of two that are equal.  The test questions have no part in the choice.

The first table has a row for each run, with what it generated and learned from; the second the difference of each
method to the first one, for each seed and over the questions: a question's value is its share of right answers over
the seeds, and the p value that of a paired permutation test (signs).  The last column has a t test over the seeds,
because a test over questions says nothing of another training.  Both are corrected over all rows (Holm).  Results stay
in `results/`; after an interruption the same command resumes.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from gsm8k_grpo.analysis.significance import mean_interval
from gsm8k_grpo.config import layers, overrides, params
from gsm8k_grpo.config.methods import METHODS
from gsm8k_grpo.files import read_json, read_jsonl, write_json
from numpy.typing import NDArray
from paired import corrected, mean_change, trainings_p, written
from scratch_gpu import pipeline

FROM_REWARDS = [name for name, traits in METHODS.items() if traits.learns_from_rewards]
RESAMPLES = 10_000
METRICS = ("strict", "flexible", "mean@k")


def settings(method: str, options: argparse.Namespace) -> list[str]:
    """Overrides for Snakemake's --config: one variant, named after its method."""
    changes = {key: overrides.parse_override(f"{key}={value}")[1] for key, value in options.set}
    train = {"learning_rate": options.rate[method]} if method in options.rate else {}
    variant = {"max_steps": options.steps, "method": method} | ({"start": options.start} if options.start else {})
    whole = layers.merge(layers.nested(changes), {"train": train, "variants": {method: variant}})
    fixed = {"recipe": options.recipe, "seeds": options.seeds, "keep_checkpoints": []}
    return [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in (fixed | whole).items()]


def configured(changes: Sequence[str]) -> params.Params:
    """The configuration with overrides of Snakemake's --config."""
    return params.load(Path("params.yaml"), dict(map(overrides.parse_override, changes)))


def search(method: str, options: argparse.Namespace) -> dict[float, float]:
    """The share of validation questions that are flexibly right after training with each learning rate."""
    first = argparse.Namespace(**vars(options) | {"seeds": []})
    rate = configured(settings(method, first)).settings_of(method).learning_rate
    reached: dict[float, float] = {}
    for factor in options.search:
        tried = float(f"{rate * factor:.3g}")
        first.rate = options.rate | {method: tried}
        pipeline([f"results/evaluate/{method}/metrics.json"], settings(method, first))
        reached[tried] = read_jsonl(Path("results/evaluate") / method / "checkpoints.jsonl")[-1]["flexible_accuracy"]
    return reached


def best(reached: Mapping[float, float]) -> float:
    """The learning rate with the highest accuracy, the lower one of two that are equal."""
    return max(sorted(reached), key=lambda rate: reached[rate])


def values(run: str) -> dict[str, list[float]]:
    """For each metric its value at each question of the test split: 0 or 1, or the share of the sampled answers."""
    folder = Path("results/evaluate") / run
    answers, sampled = read_jsonl(folder / "answers.jsonl"), read_jsonl(folder / "sampled.jsonl")
    return {
        "strict": [float(row["strict_correct"]) for row in answers],
        "flexible": [float(row["flexible_correct"]) for row in answers],
        "mean@k": [fmean(row["flexible_correct"]) for row in sampled],
    }


def row(method: str, seed: int, run: str) -> dict[str, Any]:
    """What a run reached and took."""
    metrics = read_json(Path("results/train") / run / "metrics.json")
    shares = {
        metric: (fmean(each), mean_interval(each, RESAMPLES, seed)) for metric, each in values(run).items() if each
    }
    taken = ("steps", "prompts_seen", "tokens", "seconds_generate", "seconds_update", "peak_memory_gib", "seconds")
    config = metrics["effective_config"]
    completions = metrics["prompts_seen"] * config["num_generations"]
    own = {"learning_rate": config["learning_rate"], "completions": completions}
    return {"method": method, "seed": seed, **shares, **{key: metrics[key] for key in taken}, **own}


def of_runs(runs: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """(runs, questions) values of each metric."""
    each = [values(run) for run in runs]
    return {metric: np.array([one[metric] for one in each]) for metric in METRICS if all(each[0].values())}


def differences(by_method: Mapping[str, Mapping[str, NDArray[np.float64]]]) -> list[dict[str, Any]]:
    """Each method against the first, with intervals and p values over the questions, and p values over the trainings.

    Args:
        by_method: (seeds, questions) values of each metric, by method.
    """
    (first, *others) = by_method
    rows: list[dict[str, Any]] = []
    for method in others:
        for metric, before in by_method[first].items():
            after = by_method[method][metric]
            change = mean_change(before.mean(0), after.mean(0), RESAMPLES)
            by_seed = (after - before).mean(1).tolist()
            rows.append({
                "method": method, "against": first, "metric": metric, "n": before.shape[1],
                "difference": change.mean, "by_seed": by_seed, "ci95": change.ci95, "p_value": change.p,
                "p_trainings": trainings_p(by_seed),
            })  # fmt: skip
    holms = (corrected([row[key] for row in rows]) for key in ("p_value", "p_trainings"))
    both = zip(rows, *holms, strict=True)
    return [row | {"p_holm": questions, "p_trainings_holm": trainings} for row, questions, trainings in both]


def percent(share: tuple[float, Sequence[float]]) -> str:
    value, (low, high) = share
    return f"{100 * value:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def print_rows(rows: Sequence[dict[str, Any]]) -> None:
    print(
        "| method | seed | strict, % | flexible, % | mean@k, % | rate | steps | completions | tokens | seconds | GiB |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for one in rows:
        shares = [percent(one[metric]) if metric in one else "" for metric in METRICS]
        seconds = one["seconds_generate"] + one["seconds_update"]
        taken = [
            f"{one['learning_rate']:.1e}", one["steps"], one["completions"], one["tokens"], f"{seconds:.0f}",
            f"{one['peak_memory_gib']:.1f}",
        ]  # fmt: skip
        print(f"| {one['method']} | {one['seed']} | {' | '.join(map(str, [*shares, *taken]))} |", flush=True)


def print_searches(searches: Mapping[str, Mapping[float, float]]) -> None:
    print("| method | learning rate: validation questions right, % | chosen |\n|---|---|---|")
    for method, reached in searches.items():
        shares = ", ".join(f"{rate:.1e}: {100 * reached[rate]:.1f}" for rate in sorted(reached))
        print(f"| {method} | {shares} | {best(reached):.1e} |")
    print()


def print_differences(rows: Sequence[dict[str, Any]]) -> None:
    columns = ["method", "against", "metric", "points", "each seed", "95 %", "p (Holm)", "p over trainings (Holm)"]
    print(f"\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for one in rows:
        low, high = (100 * bound for bound in one["ci95"])
        each = ", ".join(f"{100 * change:+.1f}" for change in one["by_seed"])
        figures = f"{100 * one['difference']:+.1f} | {each} | {low:+.1f} to {high:+.1f}"
        p_values = f"{written(one['p_holm'])} | {written(one['p_trainings_holm'])}"
        print(f"| {one['method']} | {one['against']} | {one['metric']} | {figures} | {p_values} |")


def pair(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    return key, value


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="tiny", help="the recipe to train")
    parser.add_argument(
        "--methods", nargs="+", choices=FROM_REWARDS, default=FROM_REWARDS, help="the first is the base"
    )
    parser.add_argument("--steps", type=int, default=250, help="optimizer steps of each run")
    parser.add_argument("--seeds", type=int, nargs="*", default=[], help="further seeds of training and sampling")
    parser.add_argument("--start", help="a variant of the recipe that training starts from, such as sft")
    parser.add_argument("--rate", nargs="*", type=pair, default=[], metavar="METHOD=RATE", help="learning rates")
    parser.add_argument(
        "--search", type=float, nargs="*", default=[], metavar="FACTOR", help="multiples of the learning rates to try"
    )
    parser.add_argument("--set", nargs="*", type=pair, default=[], metavar="KEY=VALUE", help="further settings of all")
    parser.add_argument("--out", type=Path, default=Path("methods.json"), help="JSON file for the results")
    options = parser.parse_args(given)
    options.rate = {method: float(rate) for method, rate in options.rate}
    return options


def main() -> None:
    options = arguments()
    rows, by_method, searches = [], {}, {}
    for method in options.methods:
        if options.search:
            searches[method] = search(method, options)
            options.rate[method] = best(searches[method])
        changes = settings(method, options)
        runs = configured(changes).runs[method]
        pipeline([f"results/evaluate/{run}/metrics.json" for run in runs.values()], changes)
        rows += [row(method, seed, run) for seed, run in runs.items()]
        by_method[method] = of_runs(list(runs.values()))
        write_json(options.out, {"searches": searches, "runs": rows, "differences": differences(by_method)})
    if searches:
        print_searches(searches)
    print_rows(rows)
    print_differences(differences(by_method))


if __name__ == "__main__":
    main()
