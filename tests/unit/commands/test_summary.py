"""The outcome in words: it claims no more than sign, interval and p value allow."""

import re

import pytest
from gsm8k_grpo.analysis.verdict import format_reading, headline, outcome, seeds_reading, start_reading, verdict
from gsm8k_grpo.commands.summary import summary
from gsm8k_grpo.config import params
from gsm8k_grpo.files import write_text
from sample_results import write_results

NUMBERS = re.compile(r"[+\u2212]?\d+\.\d+(?: %)?")


def row(difference, ci95, p_holm, a="base", b="short", metric="strict_accuracy"):
    """A row of comparison.json; before the correction its p is 0.001, whatever it is after."""
    differing = {"a": a, "b": b, "metric": metric, "difference": difference, "ci95": ci95}
    return differing | {"p_value": 0.001, "p_holm": p_holm}


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
        ("rose", "rose", ["rose significantly", "10.0 %", "20.0 % (short)", "30.0 % (full)"]),
        ("fell", "fell", ["fell significantly", "10.0 %", "20.0 % (short)", "30.0 % (full)"]),
        (
            "same",
            "rose",
            ["rose significantly", "10.0 %", "30.0 % (full)", "no significant difference", "20.0 % (short)"],
        ),
        (
            "fell",
            "rose",
            ["fell significantly", "10.0 %", "20.0 % (short)", "rose significantly", "10.0 %", "30.0 % (full)"],
        ),
        ("same", "same", ["no significant difference", "10.0 %", "20.0 % (short)", "30.0 % (full)"]),
    ],
)
def test_the_verdict_has_each_variants_outcome_and_accuracies_in_order(short, full, expected):
    comparison = both(short, "same") + both(full, "same", b="full")
    sentence = verdict("strict_accuracy", accuracies(base=0.1, short=0.2, full=0.3), comparison)
    assert sentence.lower().count("strict accuracy") == 1
    claims = r"(?:rose|fell) significantly|no significant difference|\d+\.\d %(?: \(\w+\))?"
    assert re.findall(claims, sentence.lower()) == expected


@pytest.mark.parametrize(
    ("flexible", "in_format", "claim"),
    [
        ("rose", False, "more questions are also answered correctly"),
        ("same", True, "not significantly more often correct"),
        ("fell", True, "less often correct"),
    ],
)
def test_a_gain_in_format_is_distinguished_from_a_gain_in_answers(flexible, in_format, claim):
    sentence = format_reading(both("rose", flexible))
    assert "short" in sentence
    assert ("gain is in the format" in sentence) == in_format
    assert claim in sentence


@pytest.mark.parametrize("strict", ["same", "fell"])
def test_there_is_no_sentence_about_the_format_if_strict_accuracy_did_not_rise(strict):
    assert format_reading(both(strict, "fell")) is None


# A start


@pytest.mark.parametrize(("start", "kept"), [("sft", False), ("sft@500", True)])
def test_the_gain_over_base_is_that_of_the_start_and_that_of_the_own_training(start, kept):
    comparison = [
        row(0.08, [0.06, 0.1], 1e-9, b="sft"),
        row(0.086, [0.07, 0.11], 1e-9, b="full"),
        row(0.006, [-0.01, 0.02], 0.6, b="full") | {"a": "sft"},
    ]
    sentence = start_reading(comparison, "strict_accuracy", "full", start)
    assert sentence.startswith(f"full starts from {start}, not from base: ")
    assert NUMBERS.findall(sentence) == ["+8.6", "+8.0", "+0.6", "\u22121.0", "+2.0", "0.6"]
    assert "no significant difference" in sentence
    assert ("final weights" in sentence) == kept


# The headline


def of_full(difference, ci95, p_holm, parts, before=0.2, b="full"):
    """The headline about `full`, whose rows come after those of another variant."""
    comparison = [row(0.5, [0.4, 0.6], 0.001, b="other"), row(difference, ci95, p_holm, b=b)]
    unlike = {"a": "base", "b": "other", "points": dict.fromkeys(("format", "answer", "both"), 9.0)}
    attribution = [unlike, {"a": "base", "b": b, "points": dict(zip(("format", "answer", "both"), parts, strict=True))}]
    return headline(comparison, attribution, accuracies(base=before, **{b: before + difference}), b)


@pytest.mark.parametrize(
    ("arguments", "word", "numbers"),
    [
        pytest.param(
            (0.576, [0.532, 0.62], 1e-9, (0.19, 0.3, 0.086)),
            "raised",
            ["57.6", "53.2", "62.0", "20.0 %", "77.6 %", "+19.0", "+30.0", "+8.6"],
            id="a gain",
        ),
        pytest.param(
            (0.1, [0.06, 0.14], 0.001, (-0.04, 0.14, 0.0)),
            "raised",
            ["10.0", "6.0", "14.0", "20.0 %", "30.0 %", "\u22124.0", "+14.0", "0.0"],
            id="a gain in spite of the format",
        ),
        pytest.param(
            (-0.05, [-0.08, -0.02], 0.01, (0.01, -0.05, -0.01)),
            "lowered",
            ["5.0", "2.0", "8.0", "20.0 %", "15.0 %", "+1.0", "\u22125.0", "\u22121.0"],
            id="a loss",
        ),
    ],
)
def test_the_headline_gives_a_difference_its_interval_and_its_parts(arguments, word, numbers):
    sentence = of_full(*arguments)
    assert sentence.startswith(f"Full training {word} strict accuracy by ")
    assert NUMBERS.findall(sentence) == numbers
    places = [sentence.index(kind) for kind in ("from the format", "from the number", "from both")]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("arguments", "p", "numbers"),
    [
        pytest.param(
            (0.012, [-0.008, 0.032], 0.31, (0.012, 0.0, 0.0)),
            "p 0.31",
            ["+1.2", "\u22120.8", "+3.2", "0.31", "20.0 %", "21.2 %"],
            id="chance",
        ),
        pytest.param(
            (-0.03, [-0.055, -0.005], 0.0512, (0.0, -0.03, 0.0)),
            "p 0.051",
            ["\u22123.0", "\u22125.5", "\u22120.5", "0.051", "20.0 %", "17.0 %"],
            id="significant only before the correction",
        ),
        pytest.param(
            (0.0, [0.0, 0.0], 1.0, (0.0, 0.0, 0.0)),
            "p 1",
            ["0.0", "0.0", "0.0", "20.0 %", "20.0 %"],
            id="no change at all",
        ),
    ],
)
def test_the_headline_claims_no_difference_that_is_not_significant(arguments, p, numbers):
    sentence = of_full(*arguments)
    assert sentence.startswith("No significant difference in strict accuracy between full training and base")
    assert f"{p} after Holm" in sentence
    assert NUMBERS.findall(sentence) == numbers
    assert not re.search("raised|lowered|format|number", sentence)


def test_the_headline_is_about_the_last_variant_that_is_no_control(root):
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


def test_the_spread_over_the_seeds_is_given_with_each_run():
    rows = [
        spread("short", [42, 43], [0.1, 0.1], 0.1, 0.0),
        spread("full", [42, 43], [0.9, 0.9], 0.9, 0.0, metric="flexible_accuracy"),
        spread("full", [42, 43], [0.7, 0.75], 0.725, 0.0354),
    ]
    sentence = seeds_reading(rows, "full")
    facts = ["2 seeds", "full", "72.5 %", "standard deviation of 3.5 points", "70.0 % (seed 42)", "75.0 % (seed 43)"]
    places = [sentence.index(fact) for fact in facts]
    assert places == sorted(places)


def test_with_one_seed_the_spread_is_unknown():
    sentence = seeds_reading([spread("full", [42], [0.7], 0.7, None)], "full")
    assert "one seed (42)" in sentence
    assert "unknown" in sentence
    assert "%" not in sentence


# The lines printed at the end of a run


@pytest.fixture
def settings(root):
    return params.load(root / "params.yaml", {"compare.resamples": 200})


def test_the_summary_gives_verdict_accuracies_report_and_the_way_to_the_curves(tmp_path, settings):
    write_results(tmp_path, settings)
    write_text(tmp_path / "report" / "report.html", "a page")
    text = summary(tmp_path, settings)
    assert text.splitlines()[0].startswith("Strict accuracy rose significantly from 10.0 % to 50.0 % (short)")
    assert re.search(r"^short  strict  50\.0 % \(\d+\.\d to \d+\.\d\)  +flexible  50\.0 % ", text, re.MULTILINE)
    assert str(tmp_path / "report" / "report.html") in text
    assert "make ui" in text


def test_without_a_report_the_summary_names_the_command_that_writes_it(tmp_path, settings):
    text = summary(tmp_path, settings)
    assert str(tmp_path / "report" / "report.html") in text
    assert "snakemake --cores 1 report" in text
    assert "%" not in text


def test_the_summary_has_the_shares_of_the_probes_that_were_run(tmp_path, settings):
    write_text(tmp_path / "report" / "report.html", "a page")
    write_results(tmp_path, settings)
    assert "word for word" not in summary(tmp_path, settings)
    write_results(tmp_path, settings, probed=True)
    lines = summary(tmp_path, settings).splitlines()
    assert lines[lines.index("questions without an answer that get a number") + 1] == (
        "plus, unanswerable: base 90.0 %, short 50.0 %, full 25.0 %"
    )
    assert lines[lines.index("questions continued word for word from the first half") + 1] == (
        "test: base 10.0 %, short 10.0 %, full 10.0 %"
    )


def test_the_summary_says_what_training_could_learn_from_and_what_it_met(tmp_path, settings):
    warning = {"step": 24, "kind": "cut", "text": "60 % of the last completions were cut off"}
    low = {"correctness": 0.02, "total": 0.05}
    write_results(tmp_path, settings, signal={"base": low}, warnings={"short": [warning]}, stopped={"full": 100})
    write_text(tmp_path / "report" / "report.html", "a page")
    lines = summary(tmp_path, settings).splitlines()
    assert "base, 4 answers to each of 200 prompts: total 5.0 %, correctness 2.0 %" in lines
    assert "short, step 24: 60 % of the last completions were cut off." in lines
    assert any(line.startswith("full was stopped after step 100 of 200: ") for line in lines)
    assert any(line.startswith("Groups whose rewards were all equal") for line in lines)
