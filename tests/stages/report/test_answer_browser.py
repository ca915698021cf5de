"""The data of the answer browser: what changed on a question, and the differences of two texts."""

import base64
import gzip
import json

import pytest
from gsm8k_grpo.config import params
from gsm8k_grpo.stages.report import answer_browser
from gsm8k_grpo.stages.report.results import read_results
from hypothesis import given
from hypothesis import strategies as st
from sample_results import HOSTILE, write_results


def answer(text="", strict=False, flexible=False, well_formed=False):
    return {
        "completion": text,
        "strict_correct": strict,
        "flexible_correct": flexible,
        "format_ok": well_formed,
    }


WRONG = answer("18 + 2 = 21", well_formed=True)
RIGHT = answer("18 + 2 = 20", strict=True, flexible=True, well_formed=True)
IN_WORDS = answer("so 20", flexible=True)


@pytest.mark.parametrize(
    ("before", "after", "result", "by"),
    [
        (WRONG, RIGHT, "fixed", "answer"),
        (IN_WORDS, RIGHT, "fixed", "format"),
        (answer("no idea"), RIGHT, "fixed", "both"),
        (RIGHT, WRONG, "broken", "answer"),
        (RIGHT, RIGHT, "right", None),
        (WRONG, IN_WORDS, "wrong", None),
    ],
)
def test_the_change_of_an_answer_has_its_result_and_its_kind(before, after, result, by):
    change = answer_browser.change(before, after)
    assert (change["result"], change["by"]) == (result, by)


def test_differences_are_whole_words_and_tags():
    assert answer_browser.differences("The answer is 16.", "The answer\n<answer>\n15\n</answer>") == [
        ("=", "The answer"),
        ("-", " is 16."),
        ("+", "\n<answer>\n15\n</answer>"),
    ]
    assert answer_browser.differences("2*9=18 toys", "2*9=19 toys") == [
        ("=", "2*9="),
        ("-", "18"),
        ("+", "19"),
        ("=", " toys"),
    ]


@given(st.text(), st.text())
def test_differences_contain_both_texts_completely(before, after):
    pieces = answer_browser.differences(before, after)
    assert "".join(text for sign, text in pieces if sign != "+") == before
    assert "".join(text for sign, text in pieces if sign != "-") == after


@pytest.fixture(scope="module")
def browser_data(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser_data")
    settings = params.load(root / "params.yaml", {"compare.resamples": 200})
    write_results(folder, settings, samples=8)
    return answer_browser.browser_data(read_results(folder, settings))


def test_every_question_has_every_models_answer_and_every_variants_change(browser_data):
    assert browser_data["models"] == ["base", "short", "full"]
    assert [task["name"] for task in browser_data["tasks"]] == ["test", "test, plain", "longer"]
    questions = browser_data["tasks"][0]["questions"]
    assert [question["id"] for question in questions] == [f"test-{index}" for index in range(40)]
    for question in questions:
        assert len(question["answers"]) == 3
        assert len(question["changes"]) == 2
    assert [answer["strict"] for answer in questions[4]["answers"]] == [False, True, True]
    assert [change["result"] for change in questions[4]["changes"]] == ["fixed", "fixed"]


def test_only_answers_to_the_first_task_have_the_counts_of_their_samples(browser_data):
    test, plain, longer = (task["questions"] for task in browser_data["tasks"])
    assert [test[index]["answers"][0]["samples"] for index in (0, 4)] == [[4, 8], [0, 8]]
    assert not any("samples" in answer for other in (plain, longer) for answer in other[0]["answers"])
    assert longer[0]["answers"][0]["text"].startswith("longer: ")


def test_compressed_data_decompress_to_the_same_and_contain_no_markup():
    data = {"text": f"{HOSTILE} ü 数"}
    text = answer_browser.compressed(data)
    assert json.loads(gzip.decompress(base64.b64decode(text))) == data
    assert "<" not in text
    assert answer_browser.compressed(data) == text
