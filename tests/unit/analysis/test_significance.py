"""Intervals and tests against values that are known from elsewhere."""

import math

import pytest
from gsm8k_grpo.analysis.significance import holm, mcnemar_p, mean_interval, share_interval
from scipy.stats import binom, binomtest


def answers(only_a, only_b, both=0, neither=0):
    """Two models' right answers with so many questions of each kind."""
    a = [True] * only_a + [False] * only_b + [True] * both + [False] * neither
    b = [False] * only_a + [True] * only_b + [True] * both + [False] * neither
    return a, b


# Newcombe (1998), Statistics in Medicine 17, table I, method 3
@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilsons_interval_is_that_of_the_literature(successes, n, low, high):
    assert share_interval(successes, n) == pytest.approx([low, high], abs=5e-5)


def test_wilsons_interval_is_scipys():
    theirs = binomtest(37, 120).proportion_ci(method="wilson")
    assert share_interval(37, 120) == pytest.approx([theirs.low, theirs.high])


def test_wilsons_interval_holds_the_share_and_stays_between_0_and_1():
    for n in (1, 2, 10, 200, 1319):
        for successes in {0, 1, n // 2, n - 1, n}:
            low, high = share_interval(successes, n)
            assert 0 <= low <= successes / n <= high <= 1


@pytest.mark.parametrize(("n", "ones"), [(100, 50), (200, 20), (1000, 700), (10, 1), (4, 3)])
def test_the_bootstrap_of_a_share_has_the_quantiles_of_the_binomial(n, ones):
    expected = [binom.ppf(q, n, ones / n) / n for q in (0.025, 0.975)]
    assert mean_interval([1] * ones + [0] * (n - ones), 10_000, 42) == pytest.approx(expected, abs=0.6 / n)


def test_the_bootstrap_of_many_values_is_the_normal_interval():
    values = [float(x) for x in range(1000)]
    half = 1.96 * math.sqrt((1000**2 - 1) / 12 / 1000)
    assert mean_interval(values, 10_000, 1) == pytest.approx([499.5 - half, 499.5 + half], abs=1.0)


def test_the_bootstrap_is_the_same_for_the_same_seed_only():
    values = [math.sin(x) for x in range(60)]
    assert mean_interval(values, 500, 7) == mean_interval(values, 500, 7)
    assert mean_interval(values, 500, 7) != mean_interval(values, 500, 8)


@pytest.mark.parametrize("values", [[3], [0, 0, 0], [1, 1], [-0.5, -0.5]])
def test_the_interval_of_equal_values_is_that_value(values):
    assert mean_interval(values, 100, 1) == [values[0], values[0]]


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"),
    [
        (10, 5, 2 * 4944 / 2**15),  # 1 + 15 + 105 + 455 + 1365 + 3003 = 4944 ways of at most 5 in 15
        (3, 9, 2 * 299 / 2**12),  # 1 + 12 + 66 + 220
        (0, 6, 2 / 2**6),
        (1, 0, 1.0),
        (4, 4, 1.0),
    ],
)
def test_mcnemars_p_is_the_sum_of_the_binomial_tails(only_a, only_b, p):
    assert mcnemar_p(*answers(only_a, only_b)) == pytest.approx(p)
    assert mcnemar_p(*answers(only_b, only_a)) == pytest.approx(p)


def test_mcnemars_p_is_the_exact_binomial_test_of_the_discordant_pairs():
    for only_a in range(12):
        for only_b in range(12):
            if only_a + only_b:
                expected = binomtest(only_a, only_a + only_b).pvalue
                assert mcnemar_p(*answers(only_a, only_b)) == pytest.approx(expected)


def test_questions_that_both_or_neither_got_right_change_no_p():
    assert mcnemar_p(*answers(2, 9, both=50, neither=70)) == mcnemar_p(*answers(2, 9))


@pytest.mark.parametrize(("both", "neither"), [(5, 0), (0, 5), (3, 4), (1, 0)])
def test_models_that_never_differ_have_p_1(both, neither):
    assert mcnemar_p(*answers(0, 0, both, neither)) == 1.0


def test_answers_of_unequal_number_are_an_error():
    with pytest.raises(ValueError, match="zip"):
        mcnemar_p([True, False], [True])


# Holm multiplies the smallest of n by n, the next by n - 1, and lets none fall below the one before.
@pytest.mark.parametrize(
    ("p_values", "corrected"),
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.02], [0.02]),
        ([0.04, 0.04, 0.04], [0.12, 0.12, 0.12]),
        ([0.9, 0.8], [1.0, 1.0]),
    ],
)
def test_holms_correction_is_that_of_its_definition(p_values, corrected):
    assert holm(p_values) == pytest.approx(corrected)
