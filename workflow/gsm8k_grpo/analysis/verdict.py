"""The answer in words: what accuracy was, what it is, and whether the difference is real.

The words follow from sign, interval and p value of results/compare/comparison.json and claim no more: a
difference counts where McNemar's p, after Holm's correction over the whole table, is below 0.05 and the bootstrap
interval leaves out zero.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from gsm8k_grpo.analysis.formatting import interval, joined, percent, points
from gsm8k_grpo.analysis.metrics import ACCURACIES

SIGNIFICANCE = 0.05
Outcome = Literal["rose", "fell", "no significant difference"]
Comparison = Mapping[str, Any]
Gains = Mapping[str, Any]
Evaluations = Mapping[str, Mapping[str, Any]]
PARTS = {"format": "the format alone", "answer": "the number alone", "both": "both at once"}


def outcome(row: Comparison) -> Outcome:
    """What a row of comparison.json shows of b against a."""
    low, high = row["ci95"]
    if row["p_holm"] >= SIGNIFICANCE or low <= 0 <= high:
        return "no significant difference"
    return "rose" if row["difference"] > 0 else "fell"


def outcomes(comparison: Iterable[Comparison], metric: str) -> dict[str, Outcome]:
    """The outcome of each variant against base."""
    return {row["b"]: outcome(row) for row in comparison if row["a"] == "base" and row["metric"] == metric}


def verdict(metric: str, evaluations: Evaluations, comparison: Iterable[Comparison]) -> str:
    """One sentence on one accuracy of base and of every variant."""
    name = metric.replace("_", " ")
    found = outcomes(comparison, metric)
    before = percent(evaluations["base"][metric])

    def shown(variants: Iterable[str]) -> str:
        return joined(f"{percent(evaluations[variant][metric])} ({variant})" for variant in variants)

    by_outcome = {word: [v for v in found if found[v] == word] for word in dict.fromkeys(found.values())}
    unchanged = by_outcome.pop("no significant difference", [])
    if not by_outcome:
        return f"No significant difference in {name}: {before} before, {shown(unchanged)} after."
    moves = [f"{word} significantly from {before} to {shown(variants)}" for word, variants in by_outcome.items()]
    rest = f"; no significant difference at {shown(unchanged)}" if unchanged else ""
    return f"{name.capitalize()} {joined(moves)}{rest}."


def headline(comparison: Iterable[Comparison], gains: Iterable[Gains], evaluations: Evaluations, variant: str) -> str:
    """The answer in one sentence: what training the variant did to strict accuracy, and how much of it is format.

    Args:
        comparison, gains: rows of comparison.json and gains.json.
        evaluations: each model's metrics.json.
        variant: the training run that the sentence is about, such as `params.headline_variant`.
    """
    of_variant = {"a": "base", "b": variant}
    row = next(row for row in comparison if row.items() >= {**of_variant, "metric": "strict_accuracy"}.items())
    parts = next(row["points"] for row in gains if row.items() >= of_variant.items())
    low, high = row["ci95"]
    before, after = (percent(evaluations[model]["strict_accuracy"]) for model in ("base", variant))
    found = outcome(row)
    if found == "no significant difference":
        return (
            f"No significant difference in strict accuracy between {variant} training and base: "
            f"{points(row['difference'])} points (95 % CI {points(low)} to {points(high)}, "
            f"p {row['p_holm']:.2g} after Holm\u2019s correction), from {before} to {after}."
        )
    word, bounds = ("raised", (low, high)) if found == "rose" else ("lowered", (-high, -low))
    shares = joined(f"{points(parts[kind])} by {name}" for kind, name in PARTS.items())
    return (
        f"{variant[0].upper()}{variant[1:]} training {word} strict accuracy by {100 * abs(row['difference']):.1f} "
        f"points (95 % CI {interval(*bounds)}), from {before} to {after}: {shares}."
    )


def seeds_reading(seeds: Iterable[Mapping[str, Any]], variant: str) -> str:
    """The spread of a variant's strict accuracy over its seeds, from seeds.json; with one seed, that there is none."""
    row = next(row for row in seeds if (row["variant"], row["metric"]) == (variant, "strict_accuracy"))
    if row["sd"] is None:
        return f"One seed ({row['seeds'][0]}): how much another run of the training would differ is not known."
    each = joined(f"{percent(value)} (seed {seed})" for seed, value in zip(row["seeds"], row["values"], strict=True))
    return (
        f"Over {len(row['seeds'])} seeds strict accuracy after {variant} training is {percent(row['mean'])} on "
        f"average, with a standard deviation of {100 * row['sd']:.1f} points: {each}."
    )


def format_reading(comparison: list[Comparison]) -> str | None:
    """Whether a higher strict accuracy is more than a better format; None where no variant's strict accuracy rose."""
    strict, flexible = (outcomes(comparison, metric) for metric in ACCURACIES)
    risen = [variant for variant in strict if strict[variant] == "rose"]
    if not risen:
        return None
    kinds = {
        "rose": "{} more questions are also answered right when the format is disregarded",
        "no significant difference": "{} the gain is in the format: read without regard to it, "
        "the answers are not significantly more often right",
        "fell": "{} the gain is in the format: read without regard to it, the answers are less often right than before",
    }
    sentences = [
        text.format(f"With {joined(variants)}")
        for word, text in kinds.items()
        if (variants := [variant for variant in risen if flexible[variant] == word])
    ]
    return ". ".join(sentences) + "."
