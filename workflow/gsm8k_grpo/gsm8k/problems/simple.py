"""The set `simple`: one to three calculations, numbers to 20.

A problem is a story about one quantity: how many there are, then up to three changes, then the question.  The
solution has one line per calculation with GSM8K's calculator annotation, and then the gold answer:

    Mia has 4 bags with 3 pens in each bag: 4*3=<<4*3=12>>12 pens.
    Mia loses 5 of them: 12-5=<<12-5=7>>7 pens.
    #### 7

Every number is between 1 and 20 and every second operand between 2 and 9, so that a model of half a million parameters
can learn the arithmetic.  The format is exactly GSM8K's.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gsm8k_grpo.records import PublishedProblem

NAMES = [
    "Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hana", "Ivan", "Jana",
    "Kofi", "Lena", "Mia", "Noor", "Omar", "Pia", "Ravi", "Sara", "Tom", "Uma",
]  # fmt: skip
ITEMS = [
    "apples", "balls", "books", "boxes", "cards", "coins", "cups", "eggs", "flags", "hats",
    "keys", "kites", "maps", "pens", "plums", "rings", "shells", "stamps", "toys", "tickets",
]  # fmt: skip
LARGEST = 20
STEPS = (1, 1, 2, 2, 2, 3)  # calculations; one number is drawn for each problem
BAGS = 0.25  # share of the stories that begin with a multiplication
OPERANDS = range(2, 10)
LIMITS = (
    f"Every calculation has a second operand from {OPERANDS[0]} to {OPERANDS[-1]} and a result of at most {LARGEST}."
)
SUMS = f"one-digit operands and results to {LARGEST}"


@dataclass(frozen=True)
class Change:
    """One thing that happens to the quantity: its sentence, its arithmetic, and for which numbers it is allowed."""

    operator: str
    sentence: str
    apply: Callable[[int, int], int]
    allowed: Callable[[int, int], bool]


CHANGES = [
    Change("+", "{name} buys {n} more", lambda x, n: x + n, lambda x, n: x + n <= LARGEST),
    Change("+", "{friend} gives {name} {n} {items}", lambda x, n: x + n, lambda x, n: x + n <= LARGEST),
    Change("-", "{name} loses {n} of them", lambda x, n: x - n, lambda x, n: x - n > 1),
    Change("-", "{name} gives {n} {items} to {friend}", lambda x, n: x - n, lambda x, n: x - n > 1),
    Change("*", "A week later {name} has {n} times as many", lambda x, n: x * n, lambda x, n: x * n <= LARGEST),
    Change("/", "{name} keeps only one part in {n}", lambda x, n: x // n, lambda x, n: x % n == 0 and x > n),
]


def problem(rng: random.Random, steps: Sequence[int] = STEPS) -> PublishedProblem:
    """A problem in GSM8K's format: its question, and its annotated solution with the `####` line.

    The number of its calculations is drawn from `steps`.
    """
    name, friend = rng.sample(NAMES, 2)
    items = rng.choice(ITEMS)
    count = rng.choice(OPERANDS)
    sentences, lines = [f"{name} has {count} {items}"], []
    if rng.random() < BAGS:
        each = rng.choice([n for n in OPERANDS if count * n <= LARGEST])
        sentences = [f"{name} has {count} bags with {each} {items} in each bag"]
        lines, count = [_calculation(sentences[0], count, "*", each, count * each, items)], count * each
    for _ in range(max(1, rng.choice(steps) - len(lines))):
        change, n = _possible_change(rng, count)
        after = change.apply(count, n)
        sentences.append(change.sentence.format(name=name, friend=friend, items=items, n=n))
        lines.append(_calculation(sentences[-1], count, change.operator, n, after, items))
        count = after
    question = f"{'. '.join(sentences)}. How many {items} does {name} have now?"
    return {"question": question, "answer": "\n".join([*lines, f"#### {count}"])}


def _possible_change(rng: random.Random, count: int) -> tuple[Change, int]:
    return rng.choice([(change, n) for change in CHANGES for n in OPERANDS if change.allowed(count, n)])


def _calculation(sentence: str, a: int, operator: str, b: int, result: int, items: str) -> str:
    return f"{sentence}: {a}{operator}{b}=<<{a}{operator}{b}={result}>>{result} {items}."
