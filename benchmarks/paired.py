"""The paired tests of the benchmarks that compare models question by question, and trainings seed by seed."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from gsm8k_grpo.analysis.significance import holm, mean_interval
from gsm8k_grpo.records import Interval
from numpy.typing import ArrayLike
from scipy.stats import permutation_test, ttest_1samp


class Change(NamedTuple):
    """The mean of the questions' differences, its 95 % interval, and the two-sided p value of no difference."""

    mean: float
    ci95: Interval
    p: float


def mean_change(before: ArrayLike, after: ArrayLike, resamples: int) -> Change:
    """The change of a value that each question has under both models.

    Args:
        before, after: (questions,) the values, in the same order.
        resamples: bootstrap resamples behind the interval, and random flips of the differences' signs behind p.
    """
    changes = np.subtract(after, before)
    test = permutation_test(
        (changes,), np.mean, permutation_type="samples", n_resamples=resamples, rng=np.random.default_rng(0)
    )
    values: Sequence[float] = changes.tolist()
    return Change(float(changes.mean()), mean_interval(values, resamples, seed=0), float(test.pvalue))


def trainings_p(changes: Sequence[float]) -> float | None:
    """The two-sided p value of no difference between trainings: the t test on the mean change of each seed.

    A test over questions takes the trainings as they are, and says nothing of another training with another seed, which
    may differ by more.

    Returns:
        None for a single seed.
    """
    return float(ttest_1samp(changes, 0.0).pvalue) if len(changes) > 1 else None


def corrected(p_values: Sequence[float | None]) -> list[float | None]:
    """The p values that are there, after Holm's correction."""
    present = [p for p in p_values if p is not None]
    of_those = iter(holm(present) if present else [])
    return [None if p is None else next(of_those) for p in p_values]


def written(p: float | None) -> str:
    """A p value in a table; empty where there is none."""
    return "" if p is None else f"{p:.2g}"
