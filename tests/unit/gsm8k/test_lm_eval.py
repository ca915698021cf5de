"""Agreement with lm-evaluation-harness: the filters and the metric of its task gsm8k on the same completions."""

import random
from itertools import islice
from pathlib import Path

import lm_eval
import pytest
import yaml
from gsm8k_grpo.config.sections import Styles
from gsm8k_grpo.files import read_jsonl
from gsm8k_grpo.gsm8k import answers
from gsm8k_grpo.gsm8k import lm_eval as readings
from gsm8k_grpo.gsm8k.answers import gold_answer
from gsm8k_grpo.gsm8k.problems import SETS, problems
from gsm8k_grpo.stages.base.corpus import completion, render
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_eval.api.instance import Instance
from lm_eval.api.metrics import exact_match_fn
from lm_eval.filters import build_filter_ensemble

TASK = yaml.safe_load((Path(lm_eval.__file__).parent / "tasks/gsm8k/gsm8k.yaml").read_text())
FILTERS = {"strict-match": readings.strict_answer, "flexible-extract": readings.flexible_answer}
NOTHING = "[invalid]"  # the result of its filters if nothing matches
SOLUTION = "Mia has 8*9=<<8*9=72>>72 pens.\n#### 72"
STYLES = tuple(Styles.model_fields)


def theirs(name, texts):
    """What a filter of the harness extracts from each text."""
    (steps,) = [entry["filter"] for entry in TASK["filter_list"] if entry["name"] == name]
    components = [(step["function"], {key: step[key] for key in step if key != "function"}) for step in steps]
    instances = [Instance("generate_until", {}, (), index, resps=[text]) for index, text in enumerate(texts)]
    build_filter_ensemble(name, components).apply(instances)
    return [instance.filtered_resps[name] for instance in instances]


def matches(answer, solution):
    """The harness's metric of one answer."""
    (metric,) = TASK["metric_list"]
    options = {key: metric[key] for key in ("regexes_to_ignore", "ignore_case", "ignore_punctuation")}
    return exact_match_fn(predictions=[answer], references=[solution], **options)["exact_match"] == 1.0


def assert_agreement(texts, solutions):
    """Assert that all answers and grades agree, by both filters; returns each filter's number of correct answers."""
    correct = {}
    for name, ours in FILTERS.items():
        answers = theirs(name, texts)
        assert [ours(text) or NOTHING for text in texts] == answers
        grades = [matches(*pair) for pair in zip(answers, solutions, strict=True)]
        assert [readings.same_answer(ours(text), of) for text, of in zip(texts, solutions, strict=True)] == grades
        correct[name] = sum(grades)
    return correct


def test_the_installed_task_is_the_version_that_is_reproduced():
    assert (TASK["task"], TASK["metadata"]["version"], TASK["repeats"]) == ("gsm8k", 3.0, 1)
    assert [entry["name"] for entry in TASK["filter_list"]] == list(FILTERS)
    assert [metric["metric"] for metric in TASK["metric_list"]] == ["exact_match"]
    assert TASK["doc_to_target"] == "{{answer}}"


@pytest.mark.parametrize("name", SETS)
def test_generated_solutions_in_every_style_are_graded_alike(name):
    solutions = [row["answer"] for row in islice(problems(name, seed=1), 200)]
    texts = [
        render(style, solution.split("####")[0].strip(), gold_answer(solution))
        for style in STYLES
        for solution in solutions
    ]
    assert len(texts) == 800
    assert assert_agreement(texts, solutions * len(STYLES))["strict-match"] == 200  # those of style plain


def test_generated_solutions_with_slips_are_graded_alike():
    rng, even = random.Random(1), Styles(**dict.fromkeys(STYLES, 1.0))
    solutions = [row["answer"] for row in islice(problems("rich", seed=2), 800)]
    rows = [{"question": "Who?", "solution": text, "answer": gold_answer(text)} for text in solutions]
    texts = [completion(row, even, favourite=0.0, slips=0.5, rng=rng) for row in rows]
    correct = assert_agreement(texts, solutions)
    assert 50 < correct["strict-match"] < correct["flexible-extract"] < 600


@pytest.mark.parametrize(
    ("text", "strict", "flexible"),
    [
        ("#### 72", "72", "72"),
        ("#### $72", None, "$72"),
        ("#### -72", "-72", "-72"),
        ("####72", None, "72"),
        ("####  72", None, "72"),
        ("#### 1,072.50.", "1,072.50.", "1,072.50."),
        ("#### 72%", "72", "72"),
        ("#### 72 apples, not 71", "72", "71"),
        ("#### 5\n#### 72", "5", "72"),
        ("#### seventy-two", None, None),
        ("#### .", ".", None),
        ("##### 72", "72", "72"),
        ("It costs $72.", None, "$72."),
        ("It costs 72 $", None, "72"),
        ("72 ...", None, "..."),
        ("5-3", None, "-3"),
        ("3.14.15", None, "3.14.15"),
        ("#### ７２", None, None),
        ("#### ٧٢", None, None),
        ("\u221272", None, "72"),
        ("<reasoning>\n8 x 9\n</reasoning>\n<answer>\n72\n</answer>\n", None, "72"),
        ("", None, None),
        ("\n\n", None, None),
    ],
)
def test_an_adversarial_completion_is_graded_alike(text, strict, flexible):
    assert (readings.strict_answer(text), readings.flexible_answer(text)) == (strict, flexible)
    assert_agreement([text], [SOLUTION])


PIECES = [
    *("72", "0072", "72.0", "-72", "1,072", "7", "3.5", ".5", "70-2", "７２", "٧٢", "²"),
    *("$", "€", "%", ".", ",", "..", "-", "\u2212", "#### ", "####", "#### $", "##", "Question:", "[invalid]"),
    *(" ", "\n", "\r\n", "\t", "\u00a0", "\0", "apples", "The answer is ", "<answer>", "</answer>", "</s>"),
]


@settings(max_examples=1500)
@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join), st.sampled_from(["72", "1,072", "-72", "$72.00"]))
def test_any_mixture_of_difficult_pieces_is_graded_alike(text, gold):
    assert_agreement([text], [f"8*9=<<8*9=72>>72\n#### {gold}"])


@pytest.mark.parametrize(
    ("text", "strict", "flexible"),
    [
        ("8*9=72\n#### 72", True, True),
        ("#### 71, no: 72", False, True),
        ("#### 72 for each of 3", True, False),
        ("seventy-two", False, False),
    ],
)
def test_a_completion_is_graded_by_each_filter_separately(text, strict, flexible):
    assert (readings.strict_correct(text, "72"), readings.flexible_correct(text, "72")) == (strict, flexible)


ANSWERS = ["72", "-72", "0.5", "1072", "1,072", "$1,072.50", "72.0", "72.", "(72)", "", NOTHING]


def assert_gold_is_equivalent_to_the_solution(solutions):
    for solution in solutions:
        gold = gold_answer(solution)
        for answer in [gold, *ANSWERS]:
            assert readings.same_answer(answer, gold) == matches(answer, solution), (answer, solution)


@pytest.mark.parametrize("name", SETS)
def test_the_normalised_gold_answer_is_equivalent_to_a_generated_solution(name):
    assert_gold_is_equivalent_to_the_solution(row["answer"] for row in islice(problems(name, seed=3), 200))


def test_the_normalised_gold_answer_is_equivalent_to_the_solutions_of_gsm8k(gsm8k):
    solutions = [row["answer"] for row in read_jsonl(gsm8k / "test.jsonl")]
    assert len(solutions) == 1319
    assert_gold_is_equivalent_to_the_solution(solutions)


@pytest.mark.parametrize("written", [".5", "72.0", "007", "$18", "+7", "1,072", "72.", "1/2"])
@pytest.mark.parametrize("form", ["#### {}", "8 of them.\n#### {}", "####{}", "{}"])
def test_golds_of_other_data_are_compared_as_published(written, form):
    solution = form.format(written)
    for answer in (written, gold_answer(f"#### {written}")):
        assert readings.same_answer(answer, solution) == matches(answer, solution), (answer, solution)
    assert_agreement([f"#### {written}"], [solution])


# Our flexible extraction differs from the harness's where the same number is written in another way, and where the
# harness reads a part of a number.
@pytest.mark.parametrize(
    ("text", "ours", "harness"),
    [
        ("The answer is 72.", True, True),
        ("The answer is $72", True, True),
        ("72 apples, and 5 pears", False, False),
        ("The answer is 72.0", True, False),
        ("The answer is 72...", True, False),
        ("The answer is 72 ...", True, False),
        ("The answer is 80-72", True, False),
        ("The answer is ７２", True, False),
        ("The answer is 7e72", False, True),
    ],
)
def test_our_flexible_extraction_also_accepts_other_ways_to_write_the_number(text, ours, harness):
    assert answers.same_answer(answers.last_number(text), "72") == ours
    assert readings.same_answer(readings.flexible_answer(text), SOLUTION) == harness
