r"""The formats that a prompt can ask for: how prompts, solutions, rewards and grading follow `extract.answer_form`."""

import itertools
import time

import pytest
from chats import Settings
from gsm8k_grpo.gsm8k.answer_formats import FORMATS, AnswerForm, formatted
from gsm8k_grpo.gsm8k.answers import boxed_answer, same_answer
from gsm8k_grpo.gsm8k.prompts import SYSTEM, prompt
from gsm8k_grpo.gsm8k.rewards import NAMES, names_for, reward_functions
from gsm8k_grpo.gsm8k.solutions import formatted_solution
from hypothesis import given
from hypothesis import strategies as st

FORMS: list[AnswerForm] = ["tags", "boxed", "hash"]
EXAMPLES = {
    "tags": "<reasoning>\n3 + 4 = 7\n</reasoning>\n<answer>\n7\n</answer>\n",
    "boxed": "3 + 4 = 7\n\\boxed{7}",
    "hash": "3 + 4 = 7\n#### 7",
}


@pytest.mark.parametrize("form", FORMS)
def test_a_solution_is_written_and_read_in_the_form(form):
    text = formatted_solution("3 + 4 = <<3+4=7>>7", "7", form)
    assert text == EXAMPLES[form]
    assert FORMATS[form].strict_answer(text) == "7"
    assert FORMATS[form].well_formed(text)


@pytest.mark.parametrize(("form", "other"), list(itertools.permutations(FORMS, 2)))
def test_an_answer_in_another_form_has_neither_format_nor_answer(form, other):
    assert FORMATS[form].strict_answer(EXAMPLES[other]) is None
    assert not FORMATS[form].well_formed(EXAMPLES[other])


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"So \boxed{72}.", "72"), (r"$\boxed{\frac{3}{4}}$", r"\frac{3}{4}"), (r"\boxed {72}", "72"),
        (r"first \boxed{1}, then \boxed{2}", "2"), (r"\boxed{\text{72}}", r"\text{72}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{72", None), (r"\boxed72", None), ("72", None), (r"\boxed{}", ""), (r"}\boxed{7}", "7"),
        (r"\boxed{1} <think>\boxed{2}</think> \boxed{3}", "3"), (r"<think>\boxed{2}", None),
    ],
)  # fmt: skip
def test_the_last_closed_box_is_the_answer(text, answer):
    assert boxed_answer(text) == answer


@pytest.mark.parametrize("written", ["72", "72.0", r"\$72", r"\text{72}", "{72}", r"\frac{144}{2}"])
def test_a_boxed_number_is_right_however_it_is_written(written):
    assert same_answer(boxed_answer(rf"It is \boxed{{{written}}}."), "72")


@given(
    st.lists(st.sampled_from(["\\boxed{", "\\boxed", "{", "}", "\\}", "7", " ", "<think>", "</think>"])).map("".join)
)
def test_any_text_has_a_box_or_none(text):
    answer = boxed_answer(text)
    assert answer is None or answer in text


def test_reading_a_box_takes_linear_time():
    began = time.perf_counter()
    assert boxed_answer(r"\boxed{" * 50_000) is None
    assert time.perf_counter() - began < 1


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("boxed", r"\boxed{7}"), ("boxed", r"3 + 4 = \boxed{7} or \boxed{8}"), ("boxed", r"3 + 4 is \boxed{ }"),
        ("hash", "#### 7"), ("hash", "3 + 4 = 7\n#### 7 apples"), ("hash", "3\n#### 7\n#### 8"), ("hash", "7"),
    ],
)  # fmt: skip
def test_a_well_formed_answer_has_reasoning_and_one_answer(form, text):
    assert not FORMATS[form].well_formed(text)


@pytest.mark.parametrize("form", FORMS)
def test_rewards_follow_the_form(form):
    names = ["correctness", "accuracy", "int", "format", "strict_format"]
    functions = reward_functions("robust", names, form)
    assert [function.__name__ for function in functions] == [f"{name}_reward_func" for name in names]
    right, wrong, other = (
        EXAMPLES[form],
        EXAMPLES[form].replace("7", "8"),
        EXAMPLES["hash" if form == "tags" else "tags"],
    )
    completions = [[{"role": "assistant", "content": text}] for text in (right, wrong, other)]
    scores = [function(completions=completions, answer=["7"] * 3) for function in functions]
    assert scores == [[2, 0, 0], [2, 0, 0], [0.5, 0.5, 0], [0.5, 0.5, 0], [0.5, 0.5, 0]]


def test_rewards_that_know_tags_only_are_not_offered_for_another_form():
    assert names_for("robust", "boxed") == ["strict_format", "int", "correctness", "format", "accuracy"]
    assert names_for("published", "hash") == []
    assert names_for("control", "hash") == NAMES["control"]
    assert names_for("published", "tags") == NAMES["published"]


@pytest.mark.parametrize("form", FORMS)
def test_the_prompt_asks_for_the_form_and_shows_it(form):
    system, question, answer, last = prompt("How many?", Settings(answer_form=form, one_shot=True))
    assert system == {"role": "system", "content": SYSTEM[form]["english"]}
    assert (question["role"], answer["role"]) == ("user", "assistant")
    assert FORMATS[form].strict_answer(answer["content"]) == "26"
    assert FORMATS[form].well_formed(answer["content"])
    assert last == {"role": "user", "content": "How many?"}


def test_a_system_prompt_of_ones_own_takes_the_place_of_the_built_in_one():
    assert prompt("How many?", Settings(system="Answer in tags."))[0]["content"] == "Answer in tags."
    assert prompt("How many?", Settings(system="")) == [{"role": "user", "content": "How many?"}]
    assert prompt("How many?", Settings(answers="free")) == [{"role": "user", "content": "How many?"}]
    assert len(prompt("How many?", Settings(answers="free", system="Be brief."))) == 2


@pytest.mark.parametrize("form", FORMS)
def test_reasoning_with_a_number_and_a_mark_stays_readable(form):
    assert FORMATS[form].strict_answer(formatted(form, "There are 3 {small} steps.", "-1,072.5")) in (
        "-1,072.5",
        "-1072.5",
    )
