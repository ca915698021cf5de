"""The tables of the recipe smollm2, from one or several working folders.

    python benchmarks/smollm2_tables.py FILE --add FOLDER FOLDER    # keep the outcomes of these folders in FILE
    python benchmarks/smollm2_tables.py benchmarks/measured/smollm2.json    # the first tables of docs/results.md

Seeds that were trained on several days, or on several machines, are compared from one file.  For each model it has the
figures of its evaluation and its training and, for each test question, whether the greedy answer is right and how many
of the sampled ones are; it has no text of a question or an answer.

Variants are compared with base and with the variant that they start from, of the same seed.  The p values of greedy
answers are those of McNemar's exact test, one for each seed.  Those of several seeds, and of sampled answers, are of a
permutation test that flips the signs of the questions' differences, which are averaged over the seeds.  The last column
has a t test over the seeds, because a test over questions says nothing of another training.  Holm's correction is over
all rows of a column.
"""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import numpy as np
from gsm8k_grpo.analysis.significance import mcnemar_p
from gsm8k_grpo.config.recipes import read_recipe
from gsm8k_grpo.files import read_json, read_jsonl, write_json
from numpy.typing import NDArray
from paired import Change, corrected, mean_change, trainings_p, written

FLIPS = 9999  # random sign flips behind a p value of sampled answers
RECIPE = "smollm2-controls"
EVALUATED = (
    "strict_accuracy", "flexible_accuracy", "format_rate", "truncation_rate", "mean_completion_tokens", "measures",
    "signal",
)  # fmt: skip
TRAINED = (
    "steps", "seconds", "seconds_generate", "seconds_update", "tokens", "share_without_signal", "warnings",
    "stopped_at",
)  # fmt: skip


class Outcome(TypedDict):
    """What a model answered and how it was trained.

    Attributes:
        evaluation: figures of metrics.json of the evaluation; None if the model was trained only.
        training: figures of metrics.json of the training; None for base.
        strict, flexible: a character for each test question, 1 if the greedy answer is right, else 0.
        sampled: a digit for each test question, the number of sampled answers that are flexibly right.
        samples: sampled answers for each question, at most 9.
    """

    evaluation: dict[str, Any] | None
    training: dict[str, Any] | None
    strict: str
    flexible: str
    sampled: str
    samples: int


class Difference(NamedTuple):
    """Model b minus model a on the same questions, as a share.

    A row of one seed has no interval, and no p value over trainings.
    """

    a: str
    b: str
    metric: str
    value: float
    ci95: Sequence[float] | None
    p: float
    p_trainings: float | None = None


def collect(folder: Path) -> dict[str, Outcome]:
    """The outcomes of a working folder, by model."""
    names = {
        path.parent.name for stage in ("evaluate", "train") for path in folder.glob(f"results/{stage}/*/metrics.json")
    }
    return {name: _outcome(folder / "results", name) for name in sorted(names)}


def _outcome(results: Path, name: str) -> Outcome:
    trained, evaluated = results / "train" / name / "metrics.json", results / "evaluate" / name
    training = read_json(trained) if trained.exists() else None
    evaluation = read_json(evaluated / "metrics.json") if evaluated.exists() else None
    greedy = read_jsonl(evaluated / "answers.jsonl") if evaluation else []
    sampled = read_jsonl(evaluated / "sampled.jsonl") if evaluation else []
    return {
        "evaluation": evaluation and {key: evaluation[key] for key in EVALUATED},
        "training": training and {key: training[key] for key in TRAINED},
        "strict": "".join(str(int(row["strict_correct"])) for row in greedy),
        "flexible": "".join(str(int(row["flexible_correct"])) for row in greedy),
        "sampled": "".join(str(sum(row["flexible_correct"])) for row in sampled),
        "samples": len(sampled[0]["flexible_correct"]) if sampled else 0,
    }


def variant_of(name: str) -> str:
    """The variant of a run: sft for sft and for sft_s43."""
    return name.partition("_s")[0]


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    print(f"\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def print_models(evaluated: Mapping[str, Mapping[str, Any]]) -> None:
    """Greedy and sampled accuracies, flexible mean@k and pass@k with the largest k."""
    columns = ["model", "strict", "flexible", "format", "cut off", "tokens", "mean@k, flexible", "pass@k, flexible"]
    rows: list[list[str]] = []
    for name, metrics in evaluated.items():
        greedy = ("strict_accuracy", "flexible_accuracy", "format_rate", "truncation_rate")
        cells = [*(percent(metrics[key]) for key in greedy), f"{metrics['mean_completion_tokens']:.0f}"]
        rows.append([name, *cells, _sampled(metrics, "mean"), _sampled(metrics, "pass")])
        for row in metrics["measures"]:
            if row["prompt"] != "trained" and row["metric"] == "strict_accuracy":
                rows.append([f"{name}, {row['prompt']}", percent(row["value"]), *[""] * 6])
    print_table(columns, rows)


def _sampled(metrics: Mapping[str, Any], kind: str) -> str:
    rows = [row for row in metrics["measures"] if row["metric"].startswith(f"flexible_{kind}@")]
    return f"{percent(rows[-1]['value'])} (k = {rows[-1]['metric'].partition('@')[2]})" if rows else ""


def print_signal(evaluated: Mapping[str, Mapping[str, Any]]) -> None:
    """On what share of the prompts sampled answers differ in each reward."""
    rewards = [row["reward"] for row in next(iter(evaluated.values()))["signal"]]
    rows = ([name, *(percent(row["share"]) for row in metrics["signal"])] for name, metrics in evaluated.items())
    print_table(["differing rewards", *rewards], rows)


def print_training(trained: Mapping[str, Mapping[str, Any]]) -> None:
    columns = ["run", "steps", "seconds", "generating", "updating", "tokens", "without signal", "warnings"]
    print_table(columns, ([name, *_training(run)] for name, run in trained.items()))


def _training(run: Mapping[str, Any]) -> list[str]:
    seconds = [f"{run[key]:.0f}" for key in ("seconds", "seconds_generate", "seconds_update")]
    share = run["share_without_signal"]
    without = "" if share is None else f"{100 * share:.0f} %"
    warnings = ", ".join(f"{row['kind']} at {row['step']}" for row in run["warnings"])
    return [str(run["steps"]), *seconds, f"{run['tokens']:,}", without, warnings]


def differences(outcomes: Mapping[str, Outcome]) -> list[Difference]:
    """Each variant against base and against its start: a row per seed for greedy answers, one for sampled ones."""
    evaluated = [name for name, outcome in outcomes.items() if outcome["evaluation"]]
    variants = read_recipe(RECIPE)["variants"]
    rows: list[Difference] = []
    for variant in dict.fromkeys(variant_of(name) for name in evaluated if name != "base"):
        runs = [name for name in evaluated if variant_of(name) == variant]
        for other in dict.fromkeys(["base", variants.get(variant, {}).get("start") or "base"]):
            pairs = [(other if other == "base" else other + run.removeprefix(variant), run) for run in runs]
            pairs = [pair for pair in pairs if pair[0] in evaluated]
            for metric in ("strict", "flexible"):
                rows += [_greedy(a, b, metric, outcomes) for a, b in pairs]
                if len(pairs) > 1:
                    answers = [(right(outcomes[a][metric]), right(outcomes[b][metric])) for a, b in pairs]
                    rows.append(_over_seeds(other, variant, metric, answers))
            if pairs:
                metric = f"flexible mean@{outcomes[runs[0]]['samples']}"
                sampled = [(shares(outcomes[a]), shares(outcomes[b])) for a, b in pairs]
                rows.append(_over_seeds(other, variant, metric, sampled))
    return rows


def _greedy(a: str, b: str, metric: str, outcomes: Mapping[str, Any]) -> Difference:
    before, after = (right(outcomes[name][metric]) for name in (a, b))
    p = mcnemar_p(before.tolist(), after.tolist())
    return Difference(a, b, metric, float(np.mean(after) - np.mean(before)), None, p)


def _over_seeds(a: str, b: str, metric: str, pairs: Sequence[tuple[NDArray, NDArray]]) -> Difference:
    """Two variants, by the right answers of runs that have the same seed."""
    changes = [float(np.mean(after) - np.mean(before)) for before, after in pairs]
    return Difference(a, b, f"{metric}, seeds: {len(pairs)}", *mean_difference(pairs), trainings_p(changes))


def right(greedy: str) -> NDArray[np.bool_]:
    """For each question whether the greedy answer is right."""
    return np.array(list(greedy)) == "1"


def shares(outcome: Outcome) -> NDArray[np.float64]:
    """For each question the share of the sampled answers that are flexibly right."""
    return np.array([int(count) for count in outcome["sampled"]]) / outcome["samples"]


def mean_difference(pairs: Sequence[tuple[NDArray, NDArray]]) -> Change:
    """The change of each question's share of right answers over pairs of runs, from a to b, averaged over the pairs."""
    return mean_change(*np.mean(pairs, axis=0), FLIPS)


def print_differences(rows: Sequence[Difference]) -> None:
    columns = ["a", "b", "metric", "points", "95 %", "p", "p (Holm)", "p over trainings (Holm)"]
    of_questions, of_trainings = corrected([row.p for row in rows]), corrected([row.p_trainings for row in rows])
    cells = (_difference(*each) for each in zip(rows, of_questions, of_trainings, strict=True))
    print_table(columns, cells)


def _difference(row: Difference, of_questions: float | None, of_trainings: float | None) -> list[str]:
    interval = " to ".join(f"{100 * bound:+.1f}" for bound in row.ci95 or ())
    p_values = [written(p) for p in (row.p, of_questions, of_trainings)]
    return [row.a, row.b, row.metric, f"{100 * row.value:+.1f}", interval, *p_values]


def print_tables(outcomes: Mapping[str, Outcome]) -> None:
    evaluated = {name: outcome["evaluation"] for name, outcome in outcomes.items() if outcome["evaluation"]}
    print_models(evaluated)
    print_signal(evaluated)
    print_training({name: outcome["training"] for name, outcome in outcomes.items() if outcome["training"]})
    print_differences(differences(outcomes))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="the file that keeps the outcomes")
    parser.add_argument(
        "--add", type=Path, nargs="+", default=[], help="working folders; a model's newer outcome counts"
    )
    options = parser.parse_args()
    outcomes: dict[str, Outcome] = read_json(options.file) if options.file.exists() else {}
    for folder in options.add:
        outcomes |= collect(folder)
    if options.add:
        write_json(options.file, outcomes)
    print_tables(outcomes)


if __name__ == "__main__":
    main()
