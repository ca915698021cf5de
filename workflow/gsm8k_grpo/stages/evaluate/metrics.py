"""What is measured of a model's answers: shares and means over questions, each with its 95 % interval.

Of greedy answers the share that is right, strictly, flexibly and by the two readings of lm-evaluation-harness, that has
the format, and that the limit cut off, with Wilson's interval, and the mean length.  Of n sampled answers a question,
with bootstrap intervals over questions:

- mean@n, the share of the answers that are right;
- pass@k, the chance that at least one of k of them is: 1 - C(n-c, k) / C(n, k) for c right ones of n, which is unbiased
  (Chen et al. 2021, "Evaluating Large Language Models Trained on Code");
- maj@n, whether the answer that most of them give is (Wang et al. 2022, "Self-Consistency Improves Chain of Thought
  Reasoning in Language Models").
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
from scipy.stats import hypergeom

from gsm8k_grpo.analysis.metrics import EXTRACTIONS, GREEDY_METRICS, GREEDY_SHARES
from gsm8k_grpo.analysis.significance import mean_interval, share_interval
from gsm8k_grpo.gsm8k.answers import number, same_answer

Rows = list[dict[str, Any]]


def summarise(answers: Rows, resamples: int, seed: int) -> dict[str, Any]:
    """Every share with Wilson's interval, the mean length with a bootstrap interval."""
    lengths = [answer["completion_tokens"] for answer in answers]
    return shares(answers, GREEDY_SHARES) | {
        "mean_completion_tokens": mean_length(answers),
        "mean_completion_tokens_ci95": mean_interval(lengths, resamples, seed),
    }


def shares(answers: Rows, names: Iterable[str]) -> dict[str, Any]:
    """Shares of the answers, each with Wilson's interval as `<name>_ci95`."""
    found: dict[str, Any] = {}
    for name in names:
        successes = sum(answer[GREEDY_SHARES[name]] for answer in answers)
        found[name] = successes / len(answers)
        found[f"{name}_ci95"] = share_interval(successes, len(answers))
    return found


def mean_length(answers: Rows) -> float:
    return sum(answer["completion_tokens"] for answer in answers) / len(answers)


def greedy(summary: dict[str, Any], n: int) -> Rows:
    """A row a measure of n greedy answers, from their summary: `metric, value, ci95, n`."""
    return [
        {"metric": name, "value": summary[name], "ci95": summary[f"{name}_ci95"], "n": n} for name in GREEDY_METRICS
    ]


def sampled(rows: Rows, resamples: int, seed: int) -> Rows:
    """A row a measure of sampled.jsonl, whose rows all have as many answers: `metric, value, ci95, n`."""
    measures = []
    for extraction in EXTRACTIONS:
        for name, values in of_questions(rows, extraction).items():
            measures.append(
                {
                    "metric": f"{extraction}_{name}",
                    "value": float(np.mean(values)),
                    "ci95": mean_interval(values, resamples, seed),
                    "n": len(rows),
                }
            )
    return measures


def of_questions(rows: Rows, extraction: str) -> dict[str, list[float]]:
    """The value of each measure for each question, by one of the EXTRACTIONS."""
    right = np.array([row[f"{extraction}_correct"] for row in rows])
    n = right.shape[1]
    correct = right.sum(axis=1)
    votes = [same_answer(majority(row[f"{extraction}_answers"]), row["gold"]) for row in rows]
    return (
        {f"mean@{n}": (correct / n).tolist()}
        | {f"pass@{k}": pass_at(n, correct, k).tolist() for k in powers_of_two(n)}
        | {f"maj@{n}": [float(vote) for vote in votes]}
    )


def powers_of_two(n: int) -> list[int]:
    """1, 2, 4, ... below n, and n."""
    return [*(2**power for power in range((n - 1).bit_length())), n]


def pass_at(n: int, correct: np.ndarray, k: int) -> np.ndarray:
    """The chance that of k out of n answers at least one is among the `correct` ones of each question."""
    return hypergeom.sf(0, n, correct, k)


def majority(answers: list[str | None]) -> str | None:
    """The answer that stands most often, numbers in normal form; of several the one that came first.

    Completions without an answer have no vote; None where all are.
    """
    votes = Counter(number(answer) or answer for answer in answers if answer)
    return max(votes, key=votes.__getitem__, default=None)
