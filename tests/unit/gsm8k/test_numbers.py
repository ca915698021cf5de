"""Reading numbers: each way to write one, what only contains one, the last number of a text, and the time it takes."""

import random
import time

import pytest
from gsm8k_grpo.gsm8k import answers
from gsm8k_grpo.gsm8k.answers import last_number, marked_answer, number, xml_answer
from gsm8k_grpo.gsm8k.lm_eval import flexible_correct, strict_correct
from gsm8k_grpo.gsm8k.rewards import TABLE
from gsm8k_grpo.gsm8k.tags import TAGS
from hypothesis import given
from hypothesis import strategies as st

SPACES = {"no-break": "\u00a0", "narrow": "\u202f", "thin": "\u2009", "figure": "\u2007"}


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        # groups of digits
        ("9{,}500", "9500"), (r"9\,500", "9500"), (r"9\!500", "9500"), (r"9,\!500", "9500"), (r"9\;500", "9500"),
        ("9'500", "9500"), ("9\u2019500.50", "9500.5"), ("1,00,000", "100000"), ("12,34,567.8", "1234567.8"),
        ("1\u202f234\u202f567", "1234567"), *((f"9{space}500", "9500") for space in SPACES.values()),
        # fractions and powers of ten
        ("3/4", "0.75"), ("3 / 4", "0.75"), ("-3/4", "-0.75"), ("3\u20444", "0.75"), ("1,000/4", "250"),
        ("1 3/4", "1.75"), ("-1 3/4", "-1.75"), ("1/3", "1/3"), ("2/6", "1/3"), ("-1 1/3", "-4/3"), ("0/3", "0"),
        (r"\frac{3}{4}", "0.75"), (r"-\dfrac{3}{4}", "-0.75"), (r"\tfrac34", "0.75"), (r"1\frac{3}{4}", "1.75"),
        (r"\frac{-3}{4}", "-0.75"), (r"\frac{1{,}500}{2}", "750"), ("1.5e3", "1500"), ("1E5", "100000"),
        ("25e-1", "2.5"),
        # percentages keep their figure
        ("50%", "50"), (r"50\%", "50"), ("3/4%", "0.75"),
        # currencies
        ("$.50", "0.5"), (r"\$72", "72"), ("€72", "72"), ("72 €", "72"), ("￥72", "72"),
        # signs
        ("–3", "-3"), ("‐3", "-3"), ("\u22123", "-3"), ("–$3", "-3"),
        # dress that adds no words
        ("**72**", "72"), ("__72__", "72"), ("*72*", "72"), ("`72`", "72"), ("**72.**", "72"), ("**72**.", "72"),
        ("$72$", "72"), ("$$72$$", "72"), (r"\(72\)", "72"), ("\\[\n72\n\\]", "72"), (r"\boxed{72}", "72"),
        (r"$\boxed{72}$.", "72"), (r"**$\boxed{\$1{,}072.50}$**", "1072.5"), (r"\boxed{\text{72}}", "72"),
        ("\u200b72\ufeff", "72"), ("7\u200d2", "72"), ("$-3$", "-3"),
    ],
)  # fmt: skip
def test_a_number_is_read_however_it_is_written(written, normal):
    assert number(written) == normal
    assert last_number(f"In all {written}") == normal


@pytest.mark.parametrize(
    "text",
    [
        "12:30", "3:4", "1.2.3", "1,5", "1,07", "1,0000", "2^3", "2^{10}", "7²", "1½", "1 ½", "1_000", "5/7/2024",
        "3/0", "1e100", "5'10", "1.072,50", "1/2/", "1.5.", "x",
    ],
)  # fmt: skip
def test_a_part_of_something_else_is_not_taken_for_the_number(text):
    whole = {"1/2/": "0.5", "1.5.": "1.5"}
    assert last_number(f"In all {text}") == whole.get(text)


@pytest.mark.parametrize(
    "text", ["72 apples", "72 m", "about 72", "x = 72", "(72)", r"\boxed{72 \text{ apples}}", "****"]
)
def test_words_beside_a_number_make_it_no_number(text):
    assert number(text) is None


@pytest.mark.parametrize(
    ("text", "last"),
    [
        # a full stop without a space behind it, or a decimal point
        ("Rs.72", "72"), ("apples.18 are left", "18"), ("(of them).18 are left", "18"), ("well...5", "5"),
        ("$.50", "0.5"), ("0.5*.9", "0.9"), ("x=.5", "0.5"), (".5", "0.5"),
        # signs and ranges
        ("x = –3", "-3"), ("x = \u22123", "-3"), ("5–10", "10"), ("5-10", "10"), ("$5–$10", "10"), ("$5$-$10$", "10"),
        ("30%–50%", "50"), ("5 – 10", "10"), ("the answer—3", "3"), ("_-3_", "-3"),
        # exponents
        ("x^2", None), ("72 m^2", "72"), ("72 m^{12}", "72"), (r"72\text{ cm}^2", "72"), (r"72^\circ", "72"),
        # mixed numbers and two numbers
        ("it takes 1 3/4 hours", "1.75"), ("step 2 48/2", "24"), ("9 500", "500"), ("1, 2", "2"),
        # other operators separate numbers
        ("2*36", "36"), ("2*36=72", "72"), ("80-72", "72"), ("It is 7 2/3", "23/3"),
        # the last run decides, also where it is no number
        ("5 buses leave at 12:30", None), ("At 12:30 leave 5 buses.", "5"), ("in 2, 3 or 4.", "4"),
    ],
)  # fmt: skip
def test_the_last_number_of_a_text(text, last):
    assert last_number(text) == last


@given(st.integers(0, 10**15), st.sampled_from([",", "{,}", r"\,", r"\!", ",\\!", *SPACES.values(), "'", "\u2019"]))
def test_groups_are_read_with_every_separator(value, separator):
    written = f"{value:,}".replace(",", separator)
    assert number(written) == last_number(f"In all {written} of them") == str(value)


@given(st.integers(-999, 999), st.integers(1, 999))
def test_a_fraction_is_the_number_that_it_equals(numerator, denominator):
    written = f"{numerator}/{denominator}"
    assert number(written) == number(f"{numerator * 7}/{denominator * 7}")
    assert number(f"{numerator * denominator}/{denominator}") == str(numerator)
    assert last_number(f"In all {written}") == number(written)


# Any text at all, and the time it takes

PIECES = [
    *TAGS, *"0123456789.,:/^_'$%*-+={}()[]\\\n e<>|#`~½²\u00a0\u200b\u2212–—", "####", "</s>", "<|im_end|>", "<|", "|>",
    r"\frac", r"\frac{1}{", r"\boxed{", r"\text{", "{,}", r"\,", r"\!", "**", "$$", "<think>", "</think>", "1 3/4",
    "1.5e3", "e99", "9,500", "72",
]  # fmt: skip


def read_all(text):
    """Every reading of a text that takes part in grading or in the robust rewards."""
    for reader in (xml_answer, marked_answer, last_number, number, answers.free_answer):
        reader(text)
    for function in TABLE["robust"].values():
        function(completions=[[{"role": "assistant", "content": text}]], answer=["7"])
    strict_correct(text, "#### 7"), flexible_correct(text, text)


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=40).map("".join))
def test_any_text_is_read_without_an_exception_and_to_a_normal_form(text):
    read_all(text)
    for value in (last_number(text), marked_answer(text), number(text)):
        assert value is None or number(value) == value


def seconds(text):
    began = time.process_time()
    read_all(text)
    return time.process_time() - began


def filled(unit, length):
    """A text of about three times `length` characters: `unit` again and again, in both blocks and after them."""
    text = unit * (length // len(unit))
    return f"<reasoning>\n{text}\n</reasoning>\n<answer>\n{text}\n</answer>{text}x"


# Quadratic time would be 10 s and more for a text of 200,000 characters; reading one takes a fifth of a second.
@pytest.mark.parametrize(
    "unit",
    [
        "</s>", "</reasoning>\n<answer>\n", "<answer>", "<|", "#### ", "1", "1,", "1,000,", " ", "\n", "1/", "1 1/",
        "1.", "1\u00a0", "1\u00a0000\u00a0", r"\frac{1}{2}", r"\frac", "**", r"\boxed{", "<think>", "</think>", "-$",
    ],
)  # fmt: skip
def test_the_time_to_read_a_text_grows_no_faster_than_the_text(unit):
    for text in (unit * (200_000 // len(unit)) + "x", filled(unit, 70_000)):
        assert seconds(text) < 2


def test_the_time_to_read_any_repetition_grows_no_faster_than_the_text():
    rng = random.Random(1)
    for _ in range(40):
        unit = "".join(rng.choices(PIECES, k=rng.choice([2, 3, 4])))
        assert seconds(filled(unit, 30_000)) < 2, unit
