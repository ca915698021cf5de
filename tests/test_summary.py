"""The answer in words: never more than sign, interval and p value allow."""

import re

import pytest
from gsm8k_grpo import params
from gsm8k_grpo.files import write_text
from gsm8k_grpo.summary import format_reading, outcome, summary, verdict
from sample_results import write_results


def row(difference, ci95, p_value, a="base", b="short", metric="strict_accuracy"):
    return {"a": a, "b": b, "metric": metric, "difference": difference, "ci95": ci95, "p_value": p_value}


def both(strict, flexible, b="short"):
    """The two rows of a comparison with base, each given by its outcome."""
    numbers = {
        "rose": (0.1, [0.05, 0.15], 0.001),
        "fell": (-0.1, [-0.15, -0.05], 0.001),
        "same": (0.1, [-0.1, 0.3], 0.4),
    }
    kinds = {"strict_accuracy": strict, "flexible_accuracy": flexible}
    return [row(*numbers[kind], b=b, metric=metric) for metric, kind in kinds.items()]


def accuracies(**strict):
    return {model: {"strict_accuracy": share} for model, share in strict.items()}


@pytest.mark.parametrize(
    ("difference", "ci95", "p_value", "expected"),
    [
        (0.1, [0.05, 0.15], 0.0499, "rose"),
        (-0.1, [-0.15, -0.05], 0.0499, "fell"),
        (0.1, [0.05, 0.15], 0.05, "no significant difference"),
        (0.1, [0.0, 0.2], 0.04, "no significant difference"),
        (-0.1, [-0.2, 0.01], 0.04, "no significant difference"),
        (0.0, [0.0, 0.0], 1.0, "no significant difference"),
    ],
)
def test_a_difference_counts_where_p_and_interval_agree(difference, ci95, p_value, expected):
    assert outcome(row(difference, ci95, p_value)) == expected


@pytest.mark.parametrize(
    ("short", "full", "expected"),
    [
        ("rose", "rose", "Strict accuracy rose significantly from 10.0 % to 20.0 % (short) and 30.0 % (full)."),
        ("fell", "fell", "Strict accuracy fell significantly from 10.0 % to 20.0 % (short) and 30.0 % (full)."),
        (
            "same",
            "rose",
            "Strict accuracy rose significantly from 10.0 % to 30.0 % (full); "
            "no significant difference at 20.0 % (short).",
        ),
        (
            "fell",
            "rose",
            "Strict accuracy fell significantly from 10.0 % to 20.0 % (short) "
            "and rose significantly from 10.0 % to 30.0 % (full).",
        ),
        (
            "same",
            "same",
            "No significant difference in strict accuracy: 10.0 % before, 20.0 % (short) and 30.0 % (full) after.",
        ),
    ],
)
def test_the_verdict_says_what_the_comparison_shows(short, full, expected):
    comparison = both(short, "same") + both(full, "same", b="full")
    assert verdict("strict_accuracy", accuracies(base=0.1, short=0.2, full=0.3), comparison) == expected


@pytest.mark.parametrize(
    ("strict", "flexible", "expected"),
    [
        ("rose", "rose", "also answered right when the format is disregarded"),
        (
            "rose",
            "same",
            "the gain is in the format: read without regard to it, the answers are not significantly more",
        ),
        ("rose", "fell", "the gain is in the format: read without regard to it, the answers are less often right"),
    ],
)
def test_a_gain_is_told_from_a_gain_in_format(strict, flexible, expected):
    assert expected in format_reading(both(strict, flexible))


@pytest.mark.parametrize("strict", ["same", "fell"])
def test_nothing_is_said_of_the_format_where_strict_accuracy_did_not_rise(strict):
    assert format_reading(both(strict, "fell")) is None


# The lines that end a run


@pytest.fixture
def settings(root):
    return params.load(root / "params.yaml", {"compare.resamples": 200})


def test_the_summary_gives_the_answer_the_place_and_the_way_to_the_curves(tmp_path, settings):
    write_results(tmp_path, settings)
    write_text(tmp_path / "report" / "report.html", "a page")
    said = summary(tmp_path, settings)
    assert said.splitlines()[0].startswith("Strict accuracy rose significantly from 10.0 % to 50.0 % (short)")
    assert re.search(r"^short  strict  50\.0 % \(\d+\.\d to \d+\.\d\)  +flexible  50\.0 % ", said, re.MULTILINE)
    assert "report.html" in said
    assert "make ui" in said


def test_the_summary_says_that_there_is_no_report_yet(tmp_path, settings):
    assert summary(tmp_path, settings).startswith("no report yet")
