"""The metrics of a model's answers: shares and means over questions, each with its 95 % interval.

For greedy answers these are the share of correct answers (strictly, flexibly, and by both filters of
lm-evaluation-harness), of answers that have the format, and of answers that the token limit cut off, with Wilson's
interval; and the mean length in tokens.

For n sampled answers per question, with bootstrap intervals over questions, they are:

- mean@n, the share of the answers that are correct;
- pass@k, the probability that at least one of k answers is correct: 1 - C(n-c, k) / C(n, k) for c correct answers of
  n, which is unbiased (Chen et al. 2021, "Evaluating Large Language Models Trained on Code");
- maj@n, whether the most frequent answer is correct (Wang et al. 2022, "Self-Consistency Improves Chain of Thought
  Reasoning in Language Models").
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, cast

import numpy as np
from scipy.stats import hypergeom

from gsm8k_grpo.analysis.metrics import (
    CONTINUATION_METRICS,
    CURVE_SHARES,
    EXTRACTIONS,
    GREEDY_SHARES,
    NUMBER_RATES,
    Extraction,
    metric_interval,
    metric_value,
)
from gsm8k_grpo.analysis.significance import mean_interval, share_interval
from gsm8k_grpo.gsm8k.answers import number, same_answer
from gsm8k_grpo.records import (
    CheckpointMetrics,
    Continuation,
    GradedAnswer,
    GradedSamples,
    GreedySummary,
    MetricValue,
)


def summarise(answers: Sequence[GradedAnswer], resamples: int, seed: int) -> GreedySummary:
    """Every share with Wilson's interval, and the mean length in tokens with a bootstrap interval."""
    lengths = [answer["completion_tokens"] for answer in answers]
    summary = shares(answers, GREEDY_SHARES) | {
        "mean_completion_tokens": mean_length(answers),
        "mean_completion_tokens_ci95": mean_interval(lengths, resamples, seed),
    }
    return cast(GreedySummary, summary)


def shares(answers: Sequence[GradedAnswer], names: Iterable[str]) -> dict[str, Any]:
    """The shares of these names, each followed by Wilson's interval as `<name>_ci95`."""
    values: dict[str, Any] = {}
    for name in names:
        successes = sum(int(metric_value(answer, GREEDY_SHARES[name])) for answer in answers)
        values[name] = successes / len(answers)
        values[f"{name}_ci95"] = share_interval(successes, len(answers))
    return values


def mean_length(answers: Sequence[GradedAnswer]) -> float:
    return sum(answer["completion_tokens"] for answer in answers) / len(answers)


def curve_point(step: int, prompts_seen: int, answers: Sequence[GradedAnswer]) -> CheckpointMetrics:
    """The metrics of a checkpoint, from its answers to the validation split, with how far training had come."""
    point = {
        "step": step,
        "prompts_seen": prompts_seen,
        "n": len(answers),
        **shares(answers, CURVE_SHARES),
        "mean_completion_tokens": mean_length(answers),
    }
    return cast(CheckpointMetrics, point)


def by_formula(answers: Sequence[GradedAnswer]) -> list[GradedAnswer]:
    """The answers of a set that compares formulas, with math-verify's grades as the strict and the flexible grade."""
    return [
        {**row, "strict_correct": row["math_verify_strict"], "flexible_correct": row["math_verify_flexible"]}
        for row in answers
    ]


def greedy_metrics(summary: GreedySummary, n: int, names: Iterable[str]) -> list[MetricValue]:
    """One row per metric of n greedy answers, from their summary; `names` are some of GREEDY_METRICS."""
    return [
        {"metric": name, "value": metric_value(summary, name), "ci95": metric_interval(summary, name), "n": n}
        for name in names
    ]


def number_rates(answers: Sequence[GradedAnswer]) -> list[MetricValue]:
    """The share of unanswerable questions that the model answers with a number, by each reading."""
    rates: list[MetricValue] = []
    for name, key in NUMBER_RATES.items():
        given = sum(not metric_value(answer, key) for answer in answers)
        interval = share_interval(given, len(answers))
        rates.append({"metric": name, "value": given / len(answers), "ci95": interval, "n": len(answers)})
    return rates


def continuation_metrics(rows: Sequence[Continuation], resamples: int, seed: int) -> list[MetricValue]:
    """The share of questions continued word for word, and the mean ROUGE-L of the continuations."""
    exact, closeness = sum(row["exact"] for row in rows), [row["rouge_l"] for row in rows]
    values = (
        (exact / len(rows), share_interval(exact, len(rows))),
        (float(np.mean(closeness)), mean_interval(closeness, resamples, seed)),
    )
    return [
        {"metric": name, "value": value, "ci95": interval, "n": len(rows)}
        for name, (value, interval) in zip(CONTINUATION_METRICS, values, strict=True)
    ]


def sampled_metrics(rows: Sequence[GradedSamples], resamples: int, seed: int) -> list[MetricValue]:
    """One row per metric of sampled.jsonl, whose rows all have the same number of answers."""
    return [
        {
            "metric": f"{extraction}_{name}",
            "value": float(np.mean(values)),
            "ci95": mean_interval(values, resamples, seed),
            "n": len(rows),
        }
        for extraction in EXTRACTIONS
        for name, values in question_metrics(rows, extraction).items()
    ]


def question_metrics(rows: Sequence[GradedSamples], extraction: Extraction) -> dict[str, list[float]]:
    """The value of each metric on every question, by one of the EXTRACTIONS."""
    if extraction == "strict":
        correct = np.array([row["strict_correct"] for row in rows])
        answers = [row["strict_answers"] for row in rows]
    else:
        correct = np.array([row["flexible_correct"] for row in rows])
        answers = [row["flexible_answers"] for row in rows]
    n = correct.shape[1]
    count = correct.sum(axis=1)
    votes = [same_answer(majority(several), row["gold"]) for several, row in zip(answers, rows, strict=True)]
    return (
        {f"mean@{n}": (count / n).tolist()}
        | {f"pass@{k}": pass_at(n, count, k).tolist() for k in powers_of_two(n)}
        | {f"maj@{n}": [float(vote) for vote in votes]}
    )


def powers_of_two(n: int) -> list[int]:
    """1, 2, 4, ... below n, and n."""
    return [*(2**power for power in range((n - 1).bit_length())), n]


def pass_at(n: int, correct: np.ndarray, k: int) -> np.ndarray:
    """pass@k of each question: the probability that k of its n answers hold at least one of the `correct` ones."""
    return hypergeom.sf(0, n, correct, k)


def majority(answers: Sequence[str | None]) -> str | None:
    """The most frequent answer, with numbers in normal form; if several are equally frequent, the one that came first.

    Completions without an answer do not vote.  None if no completion has an answer.
    """
    votes = Counter(number(answer) or answer for answer in answers if answer)
    return max(votes, key=votes.__getitem__, default=None)
