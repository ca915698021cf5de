"""The attribution of a strict difference, question by question."""

from fractions import Fraction

import pytest
from gsm8k_grpo.config.sections import Compare
from gsm8k_grpo.files import read_json, write_jsonl
from gsm8k_grpo.gsm8k.answer_formats import FORMATS
from gsm8k_grpo.models.engine import Completion
from gsm8k_grpo.stages.compare.attribution import KINDS, attribute, change_kind
from gsm8k_grpo.stages.compare.stage import compare
from gsm8k_grpo.stages.evaluate.grading import grade
from hypothesis import given
from hypothesis import strategies as st

TAGGED = "<reasoning>\n{work}\n</reasoning>\n<answer>\n{answer}\n</answer>\n"
WORK = "7 x 10 + 2 = 72"


def row(completion, index=0):
    """A row of answers.jsonl for a question whose answer is 72."""
    question = {"id": f"test-{index}", "question": "How many?", "answer": "72", "solution": "#### 72"}
    return grade(question, Completion(completion, tokens=9, truncated=False), FORMATS["tags"])


def tagged(answer, work=WORK):
    return row(TAGGED.format(work=work, answer=answer))


RIGHT, WRONG = tagged("72"), tagged("71")
UNTAGGED_RIGHT, UNTAGGED_WRONG = row("The answer is 72."), row("The answer is 71.")
WITHOUT_REASONING = row("<answer>\n71\n</answer>")
WITH_A_WORD = tagged("72 apples")
THEN_ANOTHER_NUMBER = row("<answer>72</answer> in 3 steps")


@pytest.mark.parametrize(
    ("wrong", "right", "expected"),
    [
        pytest.param(UNTAGGED_RIGHT, RIGHT, "format", id="the correct number gets its tags"),
        pytest.param(WITH_A_WORD, RIGHT, "format", id="the correct number loses the word next to it"),
        pytest.param(WRONG, RIGHT, "answer", id="another number between the same tags"),
        pytest.param(
            tagged("71", work="7 x 10 + 1 = 71"), RIGHT, "answer", id="another calculation in the same format"
        ),
        pytest.param(UNTAGGED_WRONG, RIGHT, "both", id="another number, which gets its tags"),
        pytest.param(WITHOUT_REASONING, RIGHT, "both", id="another number, and reasoning before it"),
        pytest.param(UNTAGGED_RIGHT, THEN_ANOTHER_NUMBER, "both", id="tags, but the text ends in another number"),
    ],
)
def test_the_kind_is_what_changed_and_is_the_same_for_a_gain_and_a_loss(wrong, right, expected):
    assert (wrong["strict_correct"], right["strict_correct"]) == (False, True)
    assert change_kind(wrong, right) == expected
    assert change_kind(right, wrong) == expected


def test_gains_and_losses_are_counted_by_kind_and_unchanged_questions_are_not():
    before = [UNTAGGED_RIGHT, UNTAGGED_RIGHT, WRONG, UNTAGGED_WRONG, RIGHT, RIGHT, RIGHT, WRONG, UNTAGGED_RIGHT, RIGHT]
    after = [RIGHT, RIGHT, RIGHT, RIGHT, UNTAGGED_RIGHT, WRONG, WRONG, UNTAGGED_WRONG, UNTAGGED_RIGHT, RIGHT]
    assert attribute(before, after) == {
        "n": 10,
        "fixed": {"format": 2, "answer": 1, "both": 1},
        "broken": {"format": 1, "answer": 2, "both": 0},
        "points": {"format": 0.1, "answer": -0.1, "both": 0.1},
    }


MARKS = st.fixed_dictionaries(dict.fromkeys(["strict_correct", "flexible_correct", "format_ok"], st.booleans()))


@given(st.lists(st.tuples(MARKS, MARKS), min_size=1, max_size=60))
def test_the_parts_add_up_to_the_strict_difference(pairs):
    changes = attribute(*zip(*pairs, strict=True))
    n = changes["n"]
    difference = Fraction(sum(b["strict_correct"] for _, b in pairs) - sum(a["strict_correct"] for a, _ in pairs), n)
    parts = {name: Fraction(changes["fixed"][name] - changes["broken"][name], n) for name in KINDS}
    assert sum(parts.values()) == difference
    assert changes["points"] == {name: float(part) for name, part in parts.items()}


def test_the_stage_writes_the_attribution_of_every_pair_in_the_order_of_the_comparison(tmp_path):
    completions = {"base": "72", "short": TAGGED.format(work=WORK, answer="71"), "full": "<answer>72</answer>"}
    for model, completion in completions.items():
        rows = [row(completion, index) for index in range(4)]
        write_jsonl(tmp_path / "evaluate" / model / "answers.jsonl", rows)
    variants = {"short": {1: "short"}, "full": {1: "full"}}
    compare(tmp_path / "evaluate", variants, tmp_path / "compare", Compare(resamples=100), 1)
    written = read_json(tmp_path / "compare" / "gains.json")
    assert [(row["a"], row["b"]) for row in written] == [("base", "short"), ("base", "full"), ("short", "full")]
    assert [row["points"] for row in written] == [
        {"format": 0.0, "answer": 0.0, "both": 0.0},
        {"format": 1.0, "answer": 0.0, "both": 0.0},
        {"format": 0.0, "answer": 0.0, "both": 1.0},
    ]
