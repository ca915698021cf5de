"""Reading answers: numbers in normal form, gold answers, tagged answers and last numbers."""

import pytest
from gsm8k_grpo.files import read_jsonl
from gsm8k_grpo.gsm8k.answers import (
    after_thought,
    free_answer,
    gold_answer,
    last_number,
    marked_answer,
    number,
    same_answer,
    xml_answer,
)
from gsm8k_grpo.gsm8k.tags import tagged
from hypothesis import assume, given
from hypothesis import strategies as st

LONG = "12345678901234567890123456789012345678901234567890"


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("72", "72"), ("100", "100"), (LONG, LONG), (" 72\n", "72"), ("007", "7"), ("+7", "7"),
        ("72.0", "72"), ("72.50", "72.5"), ("0.10", "0.1"), (".5", "0.5"), ("-.5", "-0.5"), ("9.919", "9.919"),
        ("1,072", "1072"), ("1,234,567.80", "1234567.8"), ("-1,000", "-1000"),
        ("$72", "72"), ("$ 72", "72"), ("$1,072.50", "1072.5"), ("50%", "50"), ("50 %", "50"), ("-0.5%", "-0.5"),
        ("72.", "72"), ("72.0.", "72"), ("$5.", "5"), ("50%.", "50"), ("72。", "72"),
        ("-7", "-7"), ("- 7", "-7"), ("-$7", "-7"), ("$-7", "-7"), ("- $ 7", "-7"), ("−7", "-7"), ("－７", "-7"),
        ("７２", "72"), ("１，０７２．５０", "1072.5"), ("＄５０", "50"), ("５０％", "50"), ("＋３", "3"),
        ("0", "0"), ("-0", "0"), ("+0", "0"), ("000", "0"), ("0.00", "0"), ("-0.0", "0"), ("$0", "0"), (".0", "0"),
    ],
)  # fmt: skip
def test_number_has_one_normal_form(text, normal):
    assert number(text) == normal


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "seventy-two", "72 pears", "about 72", "72 73", "1,07", "10,72", "1,0000", ",072", "1.2.3", "7..",
        "--7", "-$-7", "+-7", "7-", "$", "%", "-", ".", "0x10", "1_000", "½", "²", "٧٢", "七", "nan", "inf",
        "7:30", "<answer>72</answer>",
    ],
)  # fmt: skip
def test_number_is_none_where_the_text_is_not_one_number(text):
    assert number(text) is None


@given(st.text() | st.text("0123456789,.$%+-− ７"))
def test_the_normal_form_of_a_normal_form_is_itself(text):
    normal = number(text)
    assert normal is None or number(normal) == normal


@given(st.integers(), st.sampled_from(["{:d}", "{:,d}", "{:d}.0", " {:,d}.00 ", "{:d}%", "{:+d}"]))
def test_every_way_to_write_an_integer_is_read(value, written):
    assert number(written.format(value)) == str(value)


@pytest.mark.parametrize(
    ("solution", "gold"),
    [
        ("One and two make 1+2=<<1+2=3>>3.\n#### 3", "3"),
        ("It costs $1,200.\n#### 1,200", "1200"),
        ("He owes money.\n#### -4", "-4"),
        ("####5", "5"),
        ("A half.\n####  0.50 \n", "0.5"),
    ],
)
def test_the_gold_answer_is_the_number_after_the_hashes(solution, gold):
    assert gold_answer(solution) == gold


@pytest.mark.parametrize(
    ("solution", "reason"),
    [
        ("The answer is 72.", "0 '####' marks"),
        ("#### 7\n#### 8", "2 '####' marks"),
        ("#### seven", "'seven' .*'####'.* not a number"),
        ("####", "'' .*'####'.* not a number"),
    ],
)
def test_a_solution_without_one_gold_answer_is_refused(solution, reason):
    with pytest.raises(ValueError, match=reason):
        gold_answer(solution)


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("<reasoning>\na\n</reasoning>\n<answer>\n72\n</answer>\n", "72"),
        ("<answer>72</answer>", "72"),
        ("<answer>\n72\npears\n</answer>", "72\npears"),
        ("<answer>1</answer> no, <answer>2</answer>", "2"),
        ("<answer>1</answer> and then <answer>2", "1"),
        ("<answer>1<answer>2</answer>", "2"),
        ("<answer>1</answer>2</answer>", "1"),
        ("<answer></answer>", ""),
        ("<answer>72", None),
        ("72</answer>", None),
        ("</answer>72<answer>", None),
        ("<Answer>72</Answer>", None),
        ("72", None),
        ("", None),
    ],
)
def test_the_tagged_answer_is_the_last_closed_block(completion, answer):
    assert xml_answer(completion) == answer


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("First 3, then 4.", "4"), ("It costs $1,072.50 in all.", "1072.5"), ("That is 50% of it", "50"),
        ("x = -3", "-3"), ("(-3)", "-3"), ("5-3", "3"), ("5 - 3", "3"), ("f(2)-3", "3"), ("so −8 degrees", "-8"),
        ("-$5", "-5"), ("$-5", "-5"), ("一共有７２个", "72"), ("1, 2", "2"), ("1,000, then 2,000.", "2000"),
        ("half is .5", "0.5"), ("72.0", "72"), ("#### 9", "9"), ("<answer>\n12\n</answer>", "12"),
        ("line 1\nline 22\n", "22"), ("no number", None), ("", None), ("½ or ٣", None),
    ],
)  # fmt: skip
def test_the_last_number_is_found_whatever_the_format(completion, answer):
    assert last_number(completion) == answer


@given(st.text() | st.text("0123456789,.$%+-− ７<answer>/\n"))
def test_any_text_can_be_read(text):
    assert xml_answer(text + "<answer>") == xml_answer(text)
    last = last_number(text)
    assert last is None or number(last) == last


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("72", "72", True), ("72.0", "72", True), ("$1,072", "1072", True), ("７２", "72", True), ("-0", "0", True),
        ("72", "-72", False), ("72", "7.2", False), ("9.11", "9.9", False), ("72 pears", "72", False),
        ("pears", "pears", False), ("", "", False), (None, "72", False), ("72", None, False), (None, None, False),
    ],
)  # fmt: skip
def test_answers_are_the_same_where_they_are_the_same_number(a, b, same):
    assert same_answer(a, b) is same
    assert same_answer(b, a) is same


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("In 1995.", None),
        ("#### 1,995", "1995"),
        ("#### none", None),
        ("#### 1 or #### 2", None),
        ("x\n#### -3.50", "-3.5"),
    ],
)
def test_the_number_of_a_free_answer_is_only_the_one_after_the_mark(text, number):
    assert free_answer(text) == number


# The mark of a free answer, read in what a model writes


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("#### 72", "72"), ("#### 1,072.50.", "1072.5"), ("#### 72%", "72"), ("#### 72 apples, not 71", "72"),
        ("#### 5\n#### 72", "5"), ("#### seven\n#### 72", "72"), ("##### 72", "72"), ("#### -4", "-4"),
        ("#### $18", "18"), ("####18", "18"), ("####\n18", "18"), ("#### \u22124", "-4"), ("#### **18** apples", "18"),
        ("#### \\boxed{18}", "18"), ("#### 3/4", "0.75"), ("#### 12:30", None), ("#### seventy-two", None),
        ("#### .", None), ("72", None), ("", None),
    ],
)  # fmt: skip
def test_the_marked_answer_is_the_first_number_behind_a_mark(completion, answer):
    assert marked_answer(completion) == answer


GOLDS = st.text("0123456789,.$%+-\u2212 7\n*{}/e\\") | st.sampled_from(
    ["$18", "18", " \u22124", "**72**", "\\boxed{9{,}500}", "$\\frac{3}{4}$", "1 1/3", "\uff17\uff12", "\n\n.5\n"]
)


@given(GOLDS, st.sampled_from(["", "One and two.\n", "<think>#### 1</think>"]))
def test_an_accepted_solution_is_right_when_its_answer_is_given_back(written, work):
    gold = free_answer(f"{work}####{written}")
    assume(gold is not None)
    assert same_answer(xml_answer(tagged("Why.", written)), gold)
    assert same_answer(marked_answer(f"{work}####{written}"), gold)
    assert number(gold) == gold


# Thoughts


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>a</think>b", "b"), ("a</think>b", "b"), ("<think>a</think><think>b</think>c", "c"), ("a", "a"),
        ("<think>a", ""), ("<think>a</think>b<think>c", "b"), ("<think>a</think>", ""),
    ],
)  # fmt: skip
def test_an_answer_is_what_no_thought_contains(text, answer):
    assert after_thought(text) == answer


@pytest.mark.parametrize("thought", ["<think>{}</think>", "{}</think>", "<think>{}"])
def test_tags_marks_and_numbers_inside_a_thought_are_no_answer(thought):
    text = thought.format("5 <answer>5</answer>\n#### 5")
    assert (xml_answer(text), marked_answer(text), last_number(text)) == (None, None, None)


def test_the_answer_behind_a_thought_is_read():
    text = "<think><answer>5</answer>\n#### 5\n</think>\n"
    assert xml_answer(text + "<answer>6</answer>") == "6"
    assert marked_answer(text + "#### 6") == "6"
    assert gold_answer(text + "#### 6") == "6"


# The real data


def test_the_gold_answer_of_each_solution_of_gsm8k_is_its_last_number_and_is_read_as_written(gsm8k):
    solutions = [row["answer"] for name in ("train", "test") for row in read_jsonl(gsm8k / f"{name}.jsonl")]
    assert len(solutions) == 8792
    for solution in solutions:
        written = solution.split("####")[1].strip()
        assert gold_answer(solution) == last_number(solution) == marked_answer(solution) == written.replace(",", "")
