"""The stage compare: every pair of models on the same questions."""

import pytest
from gsm8k_grpo.config.sections import Compare
from gsm8k_grpo.files import PipelineError, read_json, write_jsonl
from gsm8k_grpo.stages.compare.stage import compare, paired_difference


def rows(strict, flexible=None, first=0):
    """One row per letter, correct if it is T."""
    return [
        {
            "id": f"test-{n}",
            "question": f"What is {n} and {n}?",
            "strict_correct": strict_letter == "T",
            "flexible_correct": flexible_letter == "T",
            "format_ok": strict_letter == "T",
        }
        for n, (strict_letter, flexible_letter) in enumerate(zip(strict, flexible or strict, strict=True), start=first)
    ]


def run(folder, models, seed=42):
    for model, answers in models.items():
        write_jsonl(folder / "evaluate" / model / "answers.jsonl", answers)
    variants = {model: {seed: model} for model in models if model != "base"}
    compare(folder / "evaluate", variants, folder / "compare", Compare(resamples=1000), seed)
    return read_json(folder / "compare" / "comparison.json")


# With 4 questions a resampled mean has few values, so 1000 resamples give the exact interval: with 2, 3 or 1 questions
# changed it spans 0..4, 1..4 or 0..3 of the binomial with n = 4 and p = 1/2, 3/4 or 1/4.  Holm's correction multiplies
# the smallest of the six p values, 0.25, by six.
EXPECTED = [
    ("base", "short", "strict_accuracy", 0.5, [0.0, 1.0], 0.5, 2, 0),
    ("base", "short", "flexible_accuracy", 0.0, [0.0, 0.0], 1.0, 0, 0),
    ("base", "full", "strict_accuracy", 0.75, [0.25, 1.0], 0.25, 3, 0),
    ("base", "full", "flexible_accuracy", -0.25, [-0.75, 0.0], 1.0, 0, 1),
    ("short", "full", "strict_accuracy", 0.25, [0.0, 0.75], 1.0, 1, 0),
    ("short", "full", "flexible_accuracy", -0.25, [-0.75, 0.0], 1.0, 0, 1),
]


def test_every_later_model_is_compared_with_every_earlier_one(tmp_path):
    found = run(tmp_path, {"base": rows("TFFF", "TTFF"), "short": rows("TTTF", "TTFF"), "full": rows("TTTT", "FTFF")})
    keys = ("a", "b", "metric", "difference", "ci95", "p_value", "fixed", "broken")
    assert found == [dict(zip(keys, values, strict=True)) | {"n": 4, "p_holm": 1.0} for values in EXPECTED]


def test_gains_and_losses_are_counted_separately():
    found = paired_difference(rows("TTTTFFFF"), rows("FTTTTTFF"), "strict_correct", 1000, 1)
    assert (found["fixed"], found["broken"], found["difference"], found["n"]) == (2, 1, 0.125, 8)
    assert found["p_value"] == 1.0
    assert found["ci95"][0] < 0 < found["ci95"][1]


def test_a_large_gain_has_a_small_p_value():
    found = paired_difference(rows("F" * 60 + "T" * 40), rows("T" * 100), "strict_correct", 1000, 1)
    assert found["p_value"] == pytest.approx(2 / 2**60)
    assert found["ci95"] == pytest.approx([0.5, 0.7], abs=0.02)


def test_p_values_are_corrected_over_all_rows_of_the_table(tmp_path):
    found = run(tmp_path, {"base": rows("F" * 8, "F" * 8), "short": rows("T" * 8, "T" * 7 + "F")})
    assert [row["p_value"] for row in found] == [2 / 2**8, 2 / 2**7]
    assert [row["p_holm"] for row in found] == [2 * 2 / 2**8, 2 / 2**7]


def test_the_same_seed_gives_the_same_file(tmp_path):
    models = {"base": rows("TF" * 30), "short": rows("TTF" * 20)}
    assert run(tmp_path / "first", models, seed=1) == run(tmp_path / "again", models, seed=1)
    first, again = ((tmp_path / name / "compare" / "comparison.json").read_bytes() for name in ("first", "again"))
    assert first == again


@pytest.mark.parametrize(
    "others",
    [
        pytest.param(rows("TTF"), id="fewer questions"),
        pytest.param(rows("TTFF", first=1), id="other questions"),
        pytest.param(rows("TTFF")[::-1], id="another order"),
        pytest.param(
            [row | {"question": "What else?"} for row in rows("TTFF")], id="other questions with the same ids"
        ),
    ],
)
def test_models_that_answered_different_questions_are_refused(tmp_path, others):
    with pytest.raises(PipelineError, match=r"^compare: .*different questions"):
        run(tmp_path, {"base": rows("TTFF"), "short": others})
    assert not (tmp_path / "compare").exists()


def test_a_model_that_was_not_evaluated_is_named(tmp_path):
    write_jsonl(tmp_path / "base" / "answers.jsonl", rows("TF"))
    with pytest.raises(PipelineError, match=r"short.answers\.jsonl: no such file"):
        compare(tmp_path, {"short": {1: "short"}}, tmp_path / "compare", Compare(resamples=100), 1)
