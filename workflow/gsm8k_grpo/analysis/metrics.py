"""The name of each metric, once, and typed access to a metric whose name is a variable."""

from collections.abc import Mapping
from typing import Literal, cast, get_args

from gsm8k_grpo.records import Interval

ACCURACIES = {"strict_accuracy": "strict_correct", "flexible_accuracy": "flexible_correct"}
"""The accuracies that models are compared by, each with its key in a graded answer."""

GREEDY_SHARES = ACCURACIES | {
    "harness_strict": "harness_strict",
    "harness_flexible": "harness_flexible",
    "format_rate": "format_ok",
    "truncation_rate": "truncated",
}
"""Metrics that are a share of the greedy answers, each with its key in a graded answer."""

MEAN_LENGTH = "mean_completion_tokens"
GREEDY_METRICS = (*GREEDY_SHARES, MEAN_LENGTH)
"""All metrics of greedy answers, in the order of `measures` in metrics.json."""

FORMULA_METRICS = (*ACCURACIES, "format_rate", "truncation_rate", MEAN_LENGTH)
"""The metrics where answers are compared as formulas; lm-evaluation-harness's task gsm8k does not do that."""

NUMBER_RATES = {"strict_number_rate": "strict_correct", "flexible_number_rate": "flexible_correct"}
"""The shares of unanswerable questions that get a number, each with the key of a graded answer that is True if not."""

CONTINUATION_METRICS = ("continuation_exact", "continuation_rouge_l")
"""Metrics of the contamination probe: how often, and how closely, the second half of a question is continued."""

TOTAL = "total"
"""The name of the weighted sum of all rewards, next to the names of the reward functions."""

Extraction = Literal["strict", "flexible"]
EXTRACTIONS: tuple[Extraction, ...] = get_args(Extraction)
"""The two ways to extract an answer, by which sampled answers are graded."""

CURVE_SHARES = (*ACCURACIES, "format_rate")
CURVE_METRICS = (*CURVE_SHARES, MEAN_LENGTH)
"""The metrics of a learning curve: of each checkpoint on the validation split."""

FINAL_METRICS = (*CURVE_SHARES, "truncation_rate", MEAN_LENGTH)
"""The metrics of the test split that MLflow shows as `final_<name>`."""


def metric_value(row: Mapping[str, object], name: str) -> float:
    """The metric `name` of a row, such as an evaluation's metrics.json or a point of a learning curve."""
    return cast(float, row[name])


def metric_interval(row: Mapping[str, object], name: str) -> Interval:
    """The 95 % interval of the metric `name` of such a row."""
    return cast(Interval, row[f"{name}_ci95"])
