"""The answer in words: never more than sign, interval and p value allow."""

import re

import pytest
from gsm8k_grpo.analysis.verdict import format_reading, headline, outcome, seeds_reading, verdict
from gsm8k_grpo.commands.summary import summary
from gsm8k_grpo.config import params
from gsm8k_grpo.files import write_text
from sample_results import write_results


def row(difference, ci95, p_holm, a="base", b="short", metric="strict_accuracy"):
    """A row of comparison.json; before the correction its p is 0.001, whatever it is after."""
    found = {"a": a, "b": b, "metric": metric, "difference": difference, "ci95": ci95}
    return found | {"p_value": 0.001, "p_holm": p_holm}


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
    ("difference", "ci95", "p_holm", "expected"),
    [
        (0.1, [0.05, 0.15], 0.0499, "rose"),
        (-0.1, [-0.15, -0.05], 0.0499, "fell"),
        (0.1, [0.05, 0.15], 0.05, "no significant difference"),
        (0.1, [0.0, 0.2], 0.04, "no significant difference"),
        (-0.1, [-0.2, 0.01], 0.04, "no significant difference"),
        (0.0, [0.0, 0.0], 1.0, "no significant difference"),
    ],
)
def test_a_difference_counts_where_corrected_p_and_interval_agree(difference, ci95, p_holm, expected):
    assert outcome(row(difference, ci95, p_holm)) == expected


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
        ("rose", "rose", "also answered correctly when the format is ignored"),
        (
            "rose",
            "same",
            "the gain is in the format: when the format is ignored, the answers are not significantly more",
        ),
        ("rose", "fell", "the gain is in the format: when the format is ignored, the answers are less often"),
    ],
)
def test_a_gain_is_told_from_a_gain_in_format(strict, flexible, expected):
    assert expected in format_reading(both(strict, flexible))


@pytest.mark.parametrize("strict", ["same", "fell"])
def test_nothing_is_said_of_the_format_where_strict_accuracy_did_not_rise(strict):
    assert format_reading(both(strict, "fell")) is None


# The headline


def said(difference, ci95, p_holm, parts, before=0.2, b="full"):
    comparison = [row(0.5, [0.4, 0.6], 0.001, b="other"), row(difference, ci95, p_holm, b=b)]
    unlike = {"a": "base", "b": "other", "points": dict.fromkeys(("format", "answer", "both"), 9.0)}
    gains = [unlike, {"a": "base", "b": b, "points": dict(zip(("format", "answer", "both"), parts, strict=True))}]
    return headline(comparison, gains, accuracies(base=before, **{b: before + difference}), b)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param(
            (0.576, [0.532, 0.62], 1e-9, (0.19, 0.3, 0.086)),
            "Full training raised strict accuracy by 57.6 points (95 % CI 53.2 to 62.0), from 20.0 % to 77.6 %: "
            "+19.0 by the format alone, +30.0 by the number alone and +8.6 by both at once.",
            id="a gain",
        ),
        pytest.param(
            (0.1, [0.06, 0.14], 0.001, (-0.04, 0.14, 0.0)),
            "Full training raised strict accuracy by 10.0 points (95 % CI 6.0 to 14.0), from 20.0 % to 30.0 %: "
            "−4.0 by the format alone, +14.0 by the number alone and 0.0 by both at once.",
            id="a gain in spite of the format",
        ),
        pytest.param(
            (-0.05, [-0.08, -0.02], 0.01, (0.01, -0.05, -0.01)),
            "Full training lowered strict accuracy by 5.0 points (95 % CI 2.0 to 8.0), from 20.0 % to 15.0 %: "
            "+1.0 by the format alone, −5.0 by the number alone and −1.0 by both at once.",
            id="a loss",
        ),
        pytest.param(
            (0.012, [-0.008, 0.032], 0.31, (0.012, 0.0, 0.0)),
            "No significant difference in strict accuracy between full training and base: +1.2 points (95 % CI −0.8 "
            "to +3.2, p 0.31 after Holm’s correction), from 20.0 % to 21.2 %.",
            id="chance",
        ),
        pytest.param(
            (-0.03, [-0.055, -0.005], 0.0512, (0.0, -0.03, 0.0)),
            "No significant difference in strict accuracy between full training and base: −3.0 points (95 % CI −5.5 "
            "to −0.5, p 0.051 after Holm’s correction), from 20.0 % to 17.0 %.",
            id="significant before the correction alone",
        ),
        pytest.param(
            (0.0, [0.0, 0.0], 1.0, (0.0, 0.0, 0.0)),
            "No significant difference in strict accuracy between full training and base: 0.0 points (95 % CI 0.0 "
            "to 0.0, p 1 after Holm’s correction), from 20.0 % to 20.0 %.",
            id="no change at all",
        ),
    ],
)
def test_the_headline_claims_no_more_than_the_comparison_and_splits_what_it_claims(arguments, expected):
    assert said(*arguments) == expected


def test_the_headline_is_of_the_last_variant_that_is_no_control(root):
    random = {"set": "control", "weights": {"random": 1.0}}
    path = root / "params.yaml"
    assert params.load(path).headline_variant == "full"
    assert params.load(path, {"variants.control": {"epochs": 3, "rewards": random}}).headline_variant == "full"
    assert params.load(path, {"variants.full.rewards": random}).headline_variant == "short"
    assert params.load(path, {"variants.sft": {"epochs": 3, "method": "sft"}}).headline_variant == "full"
    both = {f"variants.{variant}.rewards": random for variant in ("short", "full")}
    assert params.load(path, both).headline_variant == "full"


def spread(variant, seeds, values, mean, sd, metric="strict_accuracy"):
    return {"variant": variant, "metric": metric, "seeds": seeds, "values": values, "mean": mean, "sd": sd}


def test_the_spread_over_the_seeds_is_said_with_each_run():
    rows = [
        spread("short", [42, 43], [0.1, 0.1], 0.1, 0.0),
        spread("full", [42, 43], [0.9, 0.9], 0.9, 0.0, metric="flexible_accuracy"),
        spread("full", [42, 43], [0.7, 0.75], 0.725, 0.0354),
    ]
    assert seeds_reading(rows, "full") == (
        "Over 2 seeds strict accuracy after full training is 72.5 % on average, with a standard deviation of 3.5 "
        "points: 70.0 % (seed 42) and 75.0 % (seed 43)."
    )


def test_of_one_seed_it_is_said_that_the_spread_is_not_known():
    assert seeds_reading([spread("full", [42], [0.7], 0.7, None)], "full") == (
        "One seed (42): how much another run of the training would differ is not known."
    )


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
    assert "no report yet" in summary(tmp_path, settings)
