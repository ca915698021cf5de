"""Metrics of sampled answers, compared with counting by hand, and the majority vote."""

import itertools
import math

import numpy as np
import pytest
from gsm8k_grpo.stages.evaluate.metrics import majority, pass_at, powers_of_two, question_metrics, sampled_metrics


def by_counting(n: int, correct: int, k: int) -> float:
    """The share of all choices of k out of n answers that hold a correct one; the first `correct` answers are."""
    choices = list(itertools.combinations(range(n), k))
    return sum(min(choice) < correct for choice in choices) / len(choices)


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_pass_at_k_is_the_share_of_all_choices_of_k_answers_that_hold_a_correct_one(n):
    for k in range(1, n + 1):
        values = pass_at(n, np.arange(n + 1), k)
        assert values == pytest.approx([by_counting(n, correct, k) for correct in range(n + 1)], abs=1e-12)


def test_pass_at_k_is_the_published_estimator_even_with_large_binomials():
    published = 1 - math.comb(188, 64) / math.comb(200, 64)
    assert pass_at(200, np.array([12]), 64) == pytest.approx([published], rel=1e-9)


@pytest.mark.parametrize(
    ("n", "expected"), [(1, [1]), (2, [1, 2]), (4, [1, 2, 4]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])]
)
def test_k_doubles_up_to_n(n, expected):
    assert powers_of_two(n) == expected


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (["7", "8", "8"], "8"),
        (["7", "8", "8", "7"], "7"),  # of a tie the one that came first
        (["8", "7", "7", "8"], "8"),
        (["1,072", "9", "$1072.0"], "1072"),  # one number, however it is written
        ([None, None, "7"], "7"),  # no answer has no vote
        (["", "7"], "7"),
        (["x + 1", "x + 1", "7"], "x + 1"),
        ([None, None], None),
    ],
)
def test_the_majority_is_the_most_frequent_answer(answers, expected):
    assert majority(answers) == expected


def row(gold: str, strict: list[str | None], flexible: list[str | None]) -> dict:
    return {
        "gold": gold, "strict_answers": strict, "flexible_answers": flexible,
        "strict_correct": [answer == gold for answer in strict],
        "flexible_correct": [answer == gold for answer in flexible],
    }  # fmt: skip


ROWS = [
    row("7", ["7", "7", None, "8"], ["7", "7", "7", "8"]),
    row("3", [None, None, None, None], ["3", "5", "5", "4"]),
]


def test_each_question_has_a_value_of_each_metric():
    assert question_metrics(ROWS, "strict") == {
        "mean@4": [0.5, 0.0], "pass@1": [0.5, 0.0], "pass@2": pytest.approx([5 / 6, 0.0]),
        "pass@4": [1.0, 0.0], "maj@4": [1.0, 0.0],
    }  # fmt: skip
    assert question_metrics(ROWS, "flexible")["maj@4"] == [1.0, 0.0]  # three 7; 5 before 3 and 4
    assert question_metrics(ROWS, "flexible")["mean@4"] == [0.75, 0.25]


def test_a_metric_is_the_mean_over_questions_with_an_interval_that_holds_it():
    by_metric = {row["metric"]: row for row in sampled_metrics(ROWS * 20, 200, 1)}
    assert list(by_metric) == [
        f"{kind}_{name}"
        for kind in ("strict", "flexible")
        for name in ("mean@4", "pass@1", "pass@2", "pass@4", "maj@4")
    ]
    assert by_metric["strict_mean@4"] | {"ci95": None} == {
        "metric": "strict_mean@4",
        "value": 0.25,
        "ci95": None,
        "n": 40,
    }
    low, high = by_metric["strict_mean@4"]["ci95"]
    assert 0.15 < low < 0.25 < high < 0.35
    assert by_metric == {row["metric"]: row for row in sampled_metrics(ROWS * 20, 200, 1)}
