"""The simple problems: GSM8K's format to the letter, and arithmetic that is right."""

import hashlib
import itertools
import json
import re

import pytest
from gsm8k_grpo.gsm8k.answers import gold_answer
from gsm8k_grpo.gsm8k.problems import problems
from gsm8k_grpo.gsm8k.problems.simple import ITEMS, LARGEST, NAMES, OPERANDS

LINE = re.compile(r"([A-Z][^:]+): (\d+)([-+*/])(\d+)=<<\2\3\4=(\d+)>>\5 ([a-z]+)\.")
QUESTION = re.compile(r"([A-Z][a-z]+) has \d+ .*\. How many ([a-z]+) does \1 have now\?")
APPLY = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__, "/": lambda a, b: a // b if a % b == 0 else None}


def first(count, seed=1):
    return list(itertools.islice(problems("simple", seed), count))


def calculations(row):
    """The operands, the operator and the result of each line of a solution."""
    lines = [LINE.fullmatch(line) for line in row["answer"].splitlines()[:-1]]
    return [(int(line[2]), line[3], int(line[4]), int(line[5])) for line in lines]


@pytest.fixture(scope="module")
def rows():
    return first(4000)


def test_the_same_seed_gives_the_same_problems_and_another_seed_others():
    assert first(50) == first(50)
    assert first(50) != first(50, seed=2)


def test_the_problems_of_a_seed_never_change():
    """The recorded figures of the recipe tiny depend on them."""
    text = json.dumps(first(1000, seed=42))
    assert hashlib.sha256(text.encode()).hexdigest().startswith("78eb34211a7f0859")


def test_a_longer_stream_begins_with_the_shorter_one():
    assert first(60)[:50] == first(50)


def test_no_question_comes_twice(rows):
    assert len({row["question"] for row in rows}) == 4000


def test_the_keys_are_those_of_gsm8k(rows):
    assert {tuple(row) for row in rows} == {("question", "answer")}


def test_a_question_tells_a_story_of_one_name_and_its_items(rows):
    for row in rows:
        name, items = QUESTION.fullmatch(row["question"]).groups()
        assert name in NAMES
        assert items in ITEMS
        assert all(line.endswith(f" {items}.") for line in row["answer"].splitlines()[:-1])


def test_each_line_of_a_solution_repeats_the_sentence_that_it_calculates(rows):
    for row in rows:
        *sentences, _ = row["question"].split(". ")
        repeated = [LINE.fullmatch(line)[1] for line in row["answer"].splitlines()[:-1]]
        assert repeated == sentences[-len(repeated) :]


def test_every_annotated_calculation_is_right(rows):
    wrong = [row for row in rows for a, sign, b, result in calculations(row) if APPLY[sign](a, b) != result]
    assert wrong == []


def test_each_calculation_continues_from_the_last_and_the_gold_answer_is_the_result(rows):
    for row in rows:
        steps = calculations(row)
        assert [step[0] for step in steps[1:]] == [step[3] for step in steps[:-1]]
        assert gold_answer(row["answer"]) == str(steps[-1][3])


def test_the_question_has_every_number_that_the_solution_uses(rows):
    for row in rows:
        steps = calculations(row)
        numbers = [int(number) for number in re.findall(r"\d+", row["question"])]
        assert numbers == [steps[0][0], *(b for _, _, b, _ in steps)]


def test_a_solution_has_one_to_three_calculations(rows):
    assert {len(calculations(row)) for row in rows} == {1, 2, 3}


def test_all_four_operators_occur(rows):
    assert {sign for row in rows for _, sign, _, _ in calculations(row)} == set(APPLY)


def test_numbers_stay_small(rows):
    for row in rows:
        for a, _, b, result in calculations(row):
            assert b in OPERANDS
            assert 2 <= a <= LARGEST < 100
            assert 2 <= result <= LARGEST
