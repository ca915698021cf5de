"""The paired test of the benchmarks that compare models question by question."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from gsm8k_grpo.analysis.significance import mean_interval
from gsm8k_grpo.records import Interval
from numpy.typing import ArrayLike
from scipy.stats import permutation_test


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
