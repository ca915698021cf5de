"""The rich problems: right arithmetic, many stories, and none of GSM8K's text."""

import ast
import itertools
import json
import operator
import random
import re
from collections import Counter
from fractions import Fraction

import pytest
from gsm8k_grpo.gsm8k.answers import gold_answer
from gsm8k_grpo.gsm8k.problems import problems
from gsm8k_grpo.gsm8k.problems.rich import CALCULATION, LARGEST, LETTER, STEPS, problem
from gsm8k_grpo.gsm8k.problems.stories import ASIDES, EVENTS, ITEMS, NAMES, NUMBERS, OPENINGS, QUESTIONS

ANNOTATED = re.compile(r"([\d+*/-]+)=<<([\d+*/-]+)=(\d+)>>(\d+)")
APPLY = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
RUN = 8  # words


def first(count, seed=1):
    return list(itertools.islice(problems("rich", seed), count))


def solution(row):
    """The lines of a solution without the gold answer."""
    return row["answer"].splitlines()[:-1]


def calculations(row):
    """The terms and the result of each line, as annotated."""
    return [ANNOTATED.search(line).group(2, 3) for line in solution(row)]


def value(terms):
    """The value of a calculation, by the rules of Python's grammar and in fractions."""

    def of(node):
        if isinstance(node, ast.BinOp):
            return APPLY[type(node.op)](of(node.left), of(node.right))
        return Fraction(node.value)

    return of(ast.parse(terms, mode="eval").body)


@pytest.fixture(scope="module")
def rows():
    return first(6000)


def test_the_same_seed_gives_the_same_problems_and_another_seed_others():
    assert first(50) == first(60)[:50]
    assert first(50) != first(50, seed=2)


def test_no_question_comes_twice_in_the_rows_of_both_splits():
    assert len({row["question"] for row in first(61_000)}) == 61_000


def test_every_line_of_a_solution_has_one_calculation_in_gsm8ks_annotation(rows):
    for row in rows:
        for line in solution(row):
            ((terms, annotated, result, repeated),) = ANNOTATED.findall(line)
            assert (terms, result) == (annotated, repeated)
            assert line.endswith(".")


def test_every_annotated_calculation_is_right(rows):
    assert [terms for row in rows for terms, result in calculations(row) if value(terms) != int(result)] == []


def test_the_gold_answer_is_the_last_result(rows):
    assert [row for row in rows if gold_answer(row["answer"]) != calculations(row)[-1][1]] == []


def test_every_number_of_a_solution_is_in_the_question_or_calculated_before(rows):
    known_to_all = {"2", "60", "1", "100", *map(str, NUMBERS["d"])}  # both ways, minutes, oneself, per cent, parts
    for row in rows:
        known = known_to_all | set(re.findall(r"\d+", row["question"]))
        for terms, result in calculations(row):
            assert set(re.findall(r"\d+", terms)) <= known
            known.add(result)


def test_every_result_but_the_last_is_used_later(rows):
    for row in rows:
        steps = calculations(row)
        for index, (_, result) in enumerate(steps[:-1]):
            later = [number for terms, _ in steps[index + 1 :] for number in re.findall(r"\d+", terms)]
            assert result in later


def test_solutions_have_two_to_six_calculations_with_the_set_frequencies(rows):
    counts = Counter(len(solution(row)) for row in rows)
    assert counts == {
        steps: pytest.approx(6000 * share / len(STEPS), rel=0.15) for steps, share in Counter(STEPS).items()
    }


def test_results_are_whole_and_at_most_the_largest(rows):
    results = [int(result) for row in rows for _, result in calculations(row)]
    assert min(results) == 2
    assert 900 < max(results) <= LARGEST


def test_the_problems_are_harder_than_the_simple_ones(rows):
    simple = list(itertools.islice(problems("simple", 1), 6000))
    size = {name: [int(n) for row in some for n in re.findall(r"=(\d+)>>", row["answer"])]
            for name, some in (("simple", simple), ("rich", rows))}  # fmt: skip
    assert len(size["rich"]) / 6000 > 3.3 > 2 > len(size["simple"]) / 6000
    assert sum(size["rich"]) / len(size["rich"]) > 10 * sum(size["simple"]) / len(size["simple"])


def test_every_story_begins_with_a_name(rows):
    assert {row["question"].split()[0] for row in rows} == set(NAMES)


def test_every_event_question_and_aside_is_used(rows):
    text = "\n".join(row["question"] for row in rows)
    for template in [event.sentence for event in OPENINGS + EVENTS] + ASIDES + list(QUESTIONS.values()):
        assert re.search(re.sub(r"\\{\w+\\}", r"[\\w ]+", re.escape(template)), text), template


def test_a_third_of_the_problems_have_an_aside_and_never_as_the_first_sentence(rows):
    patterns = [re.compile(re.sub(r"\\{\w+\\}", r"\\w+", re.escape(aside))) for aside in ASIDES]
    positions = [
        index
        for row in rows
        for index, sentence in enumerate(row["question"].split(". "))
        if any(pattern.fullmatch(sentence) for pattern in patterns)
    ]
    assert len(positions) / len(rows) == pytest.approx(0.3, abs=0.03)
    assert min(positions) == 1


def test_names_and_things_are_many_and_differ():
    assert len(set(NAMES)) == len(NAMES) > 100
    assert len(set(ITEMS)) == len(ITEMS) > 100


@pytest.mark.parametrize("event", OPENINGS + EVENTS, ids=lambda event: event.sentence)
def test_an_event_calculates_with_known_numbers_and_ends_with_its_quantity(event):
    letters = set(LETTER.findall(event.sentence)) | ({"d"} if "{part}" in event.sentence else set())
    known = letters | ({"x"} if event.of else set())
    for line in event.lines:
        result, terms = CALCULATION.search(line).groups()
        assert {term for term in re.split(r"[-+*/]", terms) if not term.isdigit()} <= known
        known.add(result)
    assert result == "x"
    assert event.of in ("", *QUESTIONS)
    assert event.asks or event.to in QUESTIONS


def test_a_problem_depends_only_on_its_random_numbers():
    assert problem(random.Random(5)) == problem(random.Random(5))


def runs(text):
    """Every sequence of RUN consecutive words, without numbers."""
    words = re.findall(r"[a-z']+", text.lower())
    return {" ".join(words[start : start + RUN]) for start in range(len(words) - RUN + 1)}


def test_no_eight_consecutive_words_occur_in_gsm8k(rows, gsm8k):
    real = [json.loads(line) for split in ("train", "test") for line in (gsm8k / f"{split}.jsonl").open()]
    theirs = set().union(*(runs(row[key]) for row in real for key in ("question", "answer")))
    ours = set().union(*(runs(row[key]) for row in rows for key in ("question", "answer")))
    assert len(theirs) > 100_000
    assert sorted(ours & theirs) == []
