r"""Formulas: published answers, and the comparison by math-verify."""

import time

import pytest
from gsm8k_grpo.gsm8k.formulas import ends_in_formula, published_formula, same_formula
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "formula"),
    [
        (r"\frac{3}{4}", r"\frac{3}{4}"), (r"Then $x$ is \boxed{2k+2}.", "2k+2"), ("It is so.\n#### 72", "72"),
        (r"\boxed{\text{Evelyn}}", r"\text{Evelyn}"), (" p - q ", "p - q"),
    ],
)  # fmt: skip
def test_the_formula_of_a_published_answer(text, formula):
    assert published_formula(text) == formula


def test_an_answer_that_math_verify_cannot_read_is_refused():
    with pytest.raises(ValueError, match="is no formula that math-verify can read"):
        published_formula("")


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("0.75", r"\frac{3}{4}"), ("(3, \\pi/2)", r"\left( 3, \frac{\pi}{2} \right)"),
        ("2(k+1)", "2k+2"), ("-5, 6", "6,-5"),
        (r"11\sqrt{2}", r"11\sqrt2"), ("90", r"90^\circ"), ("[-2,7]", r"x \in [-2,7]"), ("Evelyn", r"\text{Evelyn}"),
    ],
)  # fmt: skip
def test_equal_formulas_are_equal_however_they_are_written(answer, gold):
    assert same_formula(answer, gold)
    assert ends_in_formula(f"So it is $\\boxed{{{answer}}}$.", gold)
    assert not same_formula("1234", gold)


def test_no_answer_and_an_unreadable_one_are_wrong():
    assert not same_formula(None, "7")
    assert not same_formula("", "7")
    assert not ends_in_formula("I do not know.", "7")


def test_a_comparison_that_takes_too_long_is_wrong():
    began = time.perf_counter()
    assert not same_formula("9^{9^{9^{9}}}", "9^{9^{9^{8}}}")
    assert time.perf_counter() - began < 15


@settings(max_examples=60)
@given(st.text(max_size=60))
def test_any_text_is_right_or_wrong(text):
    assert same_formula(text, "72") in (True, False)
    assert ends_in_formula(text, "72") in (True, False)
