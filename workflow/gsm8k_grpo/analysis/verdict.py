"""The outcome in words: accuracy before and after training, and whether the difference is real.

The words claim no more than the sign, the interval and the p value in results/compare/comparison.json.  A difference
counts as real if McNemar's p is below 0.05 after Holm's correction over the whole table, and the bootstrap interval
excludes zero.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from gsm8k_grpo.analysis.formatting import interval, joined, percent, points
from gsm8k_grpo.analysis.metrics import ACCURACIES, metric_value
from gsm8k_grpo.records import Attribution, ChangeKind, Comparison, Evaluation, SeedSpread

SIGNIFICANCE = 0.05
Outcome = Literal["rose", "fell", "no significant difference"]
Evaluations = Mapping[str, Evaluation]
"""Each model's metrics.json."""
CAUSES: dict[ChangeKind, str] = {"format": "the format alone", "answer": "the number alone", "both": "both"}


def outcome(row: Comparison) -> Outcome:
    """The outcome for b compared with a, from their row of comparison.json."""
    low, high = row["ci95"]
    if row["p_holm"] >= SIGNIFICANCE or low <= 0 <= high:
        return "no significant difference"
    return "rose" if row["difference"] > 0 else "fell"


def outcomes(comparison: Iterable[Comparison], metric: str) -> dict[str, Outcome]:
    """The outcome of each variant compared with base."""
    return {row["b"]: outcome(row) for row in comparison if row["a"] == "base" and row["metric"] == metric}


def verdict(metric: str, evaluations: Evaluations, comparison: Iterable[Comparison]) -> str:
    """One sentence about one accuracy of base and of every variant."""
    name = metric.replace("_", " ")
    by_variant = outcomes(comparison, metric)
    before = percent(metric_value(evaluations["base"], metric))

    def shown(variants: Iterable[str]) -> str:
        return joined(f"{percent(metric_value(evaluations[variant], metric))} ({variant})" for variant in variants)

    by_outcome = {
        word: [variant for variant in by_variant if by_variant[variant] == word]
        for word in dict.fromkeys(by_variant.values())
    }
    unchanged = by_outcome.pop("no significant difference", [])
    if not by_outcome:
        return f"No significant difference in {name}: {before} before, {shown(unchanged)} after."
    moves = [f"{word} significantly from {before} to {shown(variants)}" for word, variants in by_outcome.items()]
    rest = f"; no significant difference at {shown(unchanged)}" if unchanged else ""
    return f"{name.capitalize()} {joined(moves)}{rest}."


def headline(
    comparison: Iterable[Comparison],
    gains: Iterable[Attribution],
    evaluations: Evaluations,
    variant: str,
    starts: Sequence[str] = (),
) -> str:
    """One sentence about what training the variant did to strict accuracy, and how much of that is format.

    Args:
        comparison: the rows of comparison.json.
        gains: the rows of gains.json.
        evaluations: each model's metrics.json.
        variant: the variant that the sentence is about, such as `params.headline_variant`.
        starts: the variants that it was trained from, the first one first; none if it started from base.
    """
    of_variant = {"a": "base", "b": variant}
    row = next(row for row in comparison if row.items() >= {**of_variant, "metric": "strict_accuracy"}.items())
    parts = next(row["points"] for row in gains if row.items() >= of_variant.items())
    low, high = row["ci95"]
    before, after = (percent(evaluations[model]["strict_accuracy"]) for model in ("base", variant))
    result = outcome(row)
    trained = joined([*starts, variant])
    if result == "no significant difference":
        return (
            f"No significant difference in strict accuracy between {trained} training and base: "
            f"{points(row['difference'])} points (95 % CI {points(low)} to {points(high)}, "
            f"p {row['p_holm']:.2g} after Holm\u2019s correction), from {before} to {after}."
        )
    word, bounds = ("raised", (low, high)) if result == "rose" else ("lowered", (-high, -low))
    shares = joined(f"{points(parts[kind])} from {name}" for kind, name in CAUSES.items())
    return (
        f"{trained[0].upper()}{trained[1:]} training {word} strict accuracy by {100 * abs(row['difference']):.1f} "
        f"points (95 % CI {interval(*bounds)}), from {before} to {after}: {shares}."
    )


def start_reading(comparison: Iterable[Comparison], metric: str, variant: str, start: str) -> str:
    """One sentence that splits a variant's gain over base into that of its start and that of its own training.

    Args:
        comparison: the rows of comparison.json.
        metric: an accuracy.
        variant: a variant that was trained from another one.
        start: what it was trained from, such as `sft`, or a kept checkpoint such as `sft@500`, of which only the final
            weights (sft) were compared.
    """
    rows = {(row["a"], row["b"]): row for row in comparison if row["metric"] == metric}
    other = start.partition("@")[0]
    whole, before, own = rows["base", variant], rows["base", other], rows[other, variant]
    low, high = own["ci95"]
    kept = f" Its start is a checkpoint of {other}, whose final weights are compared here." if "@" in start else ""
    return (
        f"{variant} starts from {start}, not from base: of its {points(whole['difference'])} points of "
        f"{metric.replace('_', ' ')} over base, {points(before['difference'])} came with {other} and "
        f"{points(own['difference'])} with its own training (95 % CI {points(low)} to {points(high)}, p "
        f"{own['p_holm']:.2g} after Holm\u2019s correction: {outcome(own)}).{kept}"
    )


def seeds_reading(seeds: Iterable[SeedSpread], variant: str) -> str:
    """One sentence about the spread of a variant's strict accuracy over its seeds, from the rows of seeds.json."""
    row = next(row for row in seeds if (row["variant"], row["metric"]) == (variant, "strict_accuracy"))
    if row["sd"] is None:
        return f"Only one seed ({row['seeds'][0]}) was used, so the spread between training runs is unknown."
    each = joined(f"{percent(value)} (seed {seed})" for seed, value in zip(row["seeds"], row["values"], strict=True))
    return (
        f"Over {len(row['seeds'])} seeds strict accuracy after {variant} training is {percent(row['mean'])} on "
        f"average, with a standard deviation of {100 * row['sd']:.1f} points: {each}."
    )


def format_reading(comparison: Sequence[Comparison]) -> str | None:
    """Whether a higher strict accuracy is more than a better format; None if no variant's strict accuracy rose."""
    strict, flexible = (outcomes(comparison, metric) for metric in ACCURACIES)
    risen = [variant for variant in strict if strict[variant] == "rose"]
    if not risen:
        return None
    readings: dict[Outcome, str] = {
        "rose": "With {}, more questions are also answered correctly when the format is ignored",
        "no significant difference": "With {}, the gain is in the format: when the format is ignored, "
        "the answers are not significantly more often correct",
        "fell": "With {}, the gain is in the format: when the format is ignored, "
        "the answers are less often correct than before",
    }
    sentences = [
        text.format(joined(variants))
        for word, text in readings.items()
        if (variants := [variant for variant in risen if flexible[variant] == word])
    ]
    return ". ".join(sentences) + "."
