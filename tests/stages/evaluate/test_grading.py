"""Grading one answer: golds of other data, thoughts, white space, and the format that free answers have."""

import pytest
from gsm8k_grpo.gsm8k.answer_formats import FORMATS, MARKED
from gsm8k_grpo.gsm8k.answers import number, published_answer
from gsm8k_grpo.gsm8k.formulas import published_formula
from gsm8k_grpo.gsm8k.tags import tagged
from gsm8k_grpo.models.engine import Completion
from gsm8k_grpo.stages.evaluate.grading import grade, grade_formula, grade_unanswerable

GRADES = ("strict_correct", "flexible_correct", "format_ok", "harness_strict", "harness_flexible")


def grades(text, solution, format=FORMATS["tags"]):
    example = {
        "id": "test-0",
        "prompt": [],
        "question": "?",
        "answer": published_answer(solution),
        "solution": solution,
    }
    row = grade(example, Completion(text, 9, False), format)
    return tuple(row[name] for name in GRADES)


@pytest.mark.parametrize("written", [".5", "72.0", "007"])
def test_a_gold_given_back_as_published_is_right_for_the_harness_too(written):
    assert grades(f"#### {written}", f"Why.\n#### {written}", MARKED) == (True, True, True, True, True)
    assert grades(f"#### {written}", written, MARKED) == (True, True, True, True, True)


def test_the_harness_compares_texts_with_the_gold_as_published():
    assert grades("#### 72", "Why.\n#### 72.0", MARKED) == (True, True, True, False, False)


@pytest.mark.parametrize("end", ["#### $18", "####18", "#### \u22124", "#### **18**"])
def test_a_free_answer_given_back_as_published_is_strictly_right(end):
    assert grades(f"Why.\n{end}", f"Why.\n{end}", MARKED)[:3] == (True, True, True)


def test_grading_begins_behind_the_thought_and_the_harness_reads_it_too():
    draft, right = "<think>" + tagged("a", "8") + "#### 8</think>", tagged("a", "7")
    assert grades(draft + right, "#### 7") == (True, True, True, False, True)
    assert grades(draft, "#### 8") == (False, False, False, True, True)
    assert grades("<think>" + tagged("a", "8"), "#### 8") == (False, False, False, False, True)


@pytest.mark.parametrize("text", [" " + tagged("a", "7"), tagged("a", "7").replace("\n<answer>", "\n \n<answer>")])
def test_spaces_and_blank_lines_are_no_fault_of_format(text):
    assert grades(text, "#### 7") == (True, True, True, False, True)


def formula_grades(text, solution):
    answer = number(published_formula(solution))
    example = {"id": "own-0", "prompt": [], "question": "?", "answer": answer, "solution": solution}
    row = grade_formula(example, Completion(text, 9, False), FORMATS["boxed"])
    return tuple(
        row[name] for name in ("strict_correct", "flexible_correct", "math_verify_strict", "math_verify_flexible")
    )


@pytest.mark.parametrize(
    ("text", "solution", "expected"),
    [
        (r"So \boxed{\pi/2}.", r"\frac{\pi}{2}", (True, True, True, True)),
        (r"So $\pi/2$.", r"\frac{\pi}{2}", (False, True, False, True)),
        (r"So \boxed{\pi}.", r"\frac{\pi}{2}", (False, False, False, False)),
        (r"So \boxed{7}.", "7", (True, True, True, True)),
        (r"So \boxed{14/2}.", r"Adding gives \boxed{7}.", (True, True, True, True)),
        (r"So \boxed{2\pi/2\pi + 6}.", "7", (False, False, True, True)),
        (r"<think>\boxed{\pi}</think> \boxed{2\pi}", r"2\pi", (True, True, True, True)),
    ],
)
def test_formulas_are_compared_by_math_verify_and_numbers_also_as_numbers(text, solution, expected):
    assert formula_grades(text, solution) == expected


@pytest.mark.parametrize(
    ("text", "strict", "flexible"),
    [
        (tagged("It does not say how many.", "None"), True, True),
        (tagged("3 pens cost 6 dollars.", "unknown"), True, False),  # a number, but not as the answer
        (tagged("3 + 4 = 7", "7"), False, False),
        (tagged("3 + 4 = 7", "7 pens"), False, False),
        ("It can't be known.", True, True),
        ("It is 7.", True, False),
    ],
)
def test_a_question_without_an_answer_is_right_where_no_number_is_given(text, strict, flexible):
    example = {"id": "plus-0", "prompt": [], "question": "?", "answer": None, "solution": "None"}
    row = grade_unanswerable(example, Completion(text, 9, False), FORMATS["tags"])
    assert (row["gold"], row["strict_correct"], row["flexible_correct"]) == ("None", strict, flexible)
    assert (row["harness_strict"], row["harness_flexible"]) == (False, False)
