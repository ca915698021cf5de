"""Intervals and tests for shares of correct answers; every formula is computed by scipy or statsmodels."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import bootstrap
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from gsm8k_grpo.records import Interval

CONFIDENCE = 0.95


def share_interval(successes: int, n: int) -> Interval:
    """Wilson's 95 % interval of a share; it contains the share itself, whatever the rounding."""
    share = successes / n
    low, high = proportion_confint(successes, n, alpha=1 - CONFIDENCE, method="wilson")
    return [min(float(low), share), max(float(high), share)]


def mean_interval(values: Sequence[float], resamples: int, seed: int) -> Interval:
    """The 95 % percentile bootstrap interval of a mean; for paired differences this is the paired bootstrap."""
    data = np.asarray(values, dtype=float)
    if np.ptp(data) == 0:
        return [float(data[0])] * 2
    result = bootstrap(
        (data,),
        np.mean,
        n_resamples=resamples,
        batch=1000,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return [float(result.confidence_interval.low), float(result.confidence_interval.high)]


def mcnemar_p(a: Sequence[bool], b: Sequence[bool]) -> float:
    """Exact two-sided p of McNemar's test for two models on the same questions, in the same order."""
    only_a = sum(x and not y for x, y in zip(a, b, strict=True))
    only_b = sum(y and not x for x, y in zip(a, b, strict=True))
    both = sum(x and y for x, y in zip(a, b, strict=True))
    table = [[both, only_a], [only_b, len(a) - both - only_a - only_b]]
    return float(mcnemar(table, exact=True).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """p values after Holm's step-down correction; comparing each with 0.05 keeps the family-wise error below 5 %."""
    return [float(p) for p in multipletests(p_values, alpha=1 - CONFIDENCE, method="holm")[1]]
