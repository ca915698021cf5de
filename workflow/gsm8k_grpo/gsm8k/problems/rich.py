"""The set `rich`: two to six calculations, numbers to 1000, many stories.

A problem is a story about one quantity (things, dollars, kilometres, pages or minutes) that the events of `stories.py`
change: rates, comparisons, fractions, percentages, money and time.  Some problems have a number that the solution does
not need.  The solution has one line per calculation:

    The boxes hold 7*24=<<7*24=168>>168 stamps.
    Omar gets 168/4=<<168/4=42>>42 stamps.
    Mia keeps 168-42=<<168-42=126>>126 stamps.
    #### 126

All numbers are whole, and results are at most LARGEST.
"""

import random
import re
from typing import NamedTuple

from gsm8k_grpo.gsm8k.problems.stories import ASIDES, EVENTS, ITEMS, NAMES, NUMBERS, OPENINGS, PARTS, QUESTIONS, Event
from gsm8k_grpo.records import PublishedProblem

LARGEST = 1000
STEPS = (2, 2, 3, 3, 3, 4, 4, 5, 6)  # calculations; one number is drawn for each problem
ASIDE = 0.3  # share of the problems with a number that the solution does not need
DRAWS = 20  # attempts to draw an event with fitting numbers, before the story is dropped
LIMITS = (
    f"Every solution has {min(STEPS)} to {max(STEPS)} calculations with whole numbers and results of at most {LARGEST}."
)
SUMS = f"whole numbers and results to {LARGEST}"
CALCULATION = re.compile(r"\[([xyz])=([^\]]+)\]")
LETTER = re.compile(r"\{([a-z])\}")


class Step(NamedTuple):
    """An event of a story, with the numbers drawn for it, the lines of its solution, and the quantity after it."""

    event: Event
    numbers: dict[str, int | str]
    lines: list[str]
    quantity: int


def problem(rng: random.Random) -> PublishedProblem:
    """A problem in GSM8K's format: its question, and its annotated solution with the `####` line."""
    while True:
        story = _story(rng, rng.choice(STEPS))
        if story is not None:
            return story


def _story(rng: random.Random, steps: int) -> PublishedProblem | None:
    """A problem with this number of calculations; None if at some point no event fits."""
    words = dict(zip(("name", "friend"), rng.sample(NAMES, 2), strict=True)) | {"items": rng.choice(ITEMS)}
    kind, quantity = "", 0
    asks: str | None = None
    sentences: list[str] = []
    lines: list[str] = []
    events: list[Event] = []
    while len(lines) < steps:
        unused = [event for event in _possible_events(kind, steps - len(lines)) if event not in events]
        step = _next_step(rng, unused, quantity)
        if step is None:
            return None
        values = words | step.numbers
        event, quantity = step.event, step.quantity
        events.append(event)
        sentences.append(event.sentence.format(**values))
        lines += [line.format(**values) + "." for line in step.lines]
        kind, asks = event.to, event.asks
    if rng.random() < ASIDE:
        aside = rng.choice(ASIDES)
        sentences.insert(rng.randint(1, len(sentences)), aside.format(**words | _draw_numbers(rng, aside)))
    question = f"{'. '.join(sentences)}. {(asks or QUESTIONS[kind]).format(**words)}?"
    return {"question": question, "answer": "\n".join([*lines, f"#### {quantity}"])}


def _possible_events(kind: str, remaining: int) -> list[Event]:
    """Events that can happen to a quantity of a kind with this number of calculations remaining.

    An event with a question ends the story, so it must use all of them.
    """
    events = EVENTS if kind else OPENINGS
    return [
        event
        for event in events
        if event.of == kind and (len(event.lines) == remaining if event.asks else len(event.lines) <= remaining)
    ]


def _next_step(rng: random.Random, events: list[Event], quantity: int) -> Step | None:
    """One of the events with fitting numbers; None if DRAWS attempts found none."""
    for _ in range(DRAWS if events else 0):
        event = rng.choice(events)
        numbers = _draw_numbers(rng, event.sentence)
        try:
            return Step(event, numbers, *_work(event.lines, numbers, quantity))
        except ArithmeticError:
            continue
    return None


def _draw_numbers(rng: random.Random, sentence: str) -> dict[str, int | str]:
    """A value for each letter of a sentence; for `{part}`, its word and the number `d`."""
    numbers: dict[str, int | str] = {letter: rng.choice(NUMBERS[letter]) for letter in LETTER.findall(sentence)}
    if "{part}" in sentence:
        numbers["d"], numbers["part"] = rng.choice(list(PARTS.items()))
    return numbers


def _work(lines: tuple[str, ...], numbers: dict[str, int | str], quantity: int) -> tuple[list[str], int]:
    """The lines with their calculations written out, and the quantity after them.

    Raises:
        ArithmeticError: if a result is not whole, below 2 or above LARGEST.
    """
    results = {"x": quantity}

    def written(match: re.Match[str]) -> str:
        values = numbers | results
        terms = [str(values.get(term, term)) for term in re.split(r"([-+*/])", match[2])]
        results[match[1]] = result = _result(terms)
        calculation = "".join(terms)
        return f"{calculation}=<<{calculation}={result}>>{result}"

    return [CALCULATION.sub(written, line) for line in lines], results["x"]


def _result(terms: list[str]) -> int:
    """The result of terms such as `["80", "*", "25", "/", "100"]`, calculated from left to right."""
    value = int(terms[0])
    for operator, term in zip(terms[1::2], map(int, terms[2::2]), strict=True):
        if operator == "/" and value % term:
            raise ArithmeticError(f"{value}/{term} is not whole")
        value = {"+": value + term, "-": value - term, "*": value * term, "/": value // term}[operator]
    if not 2 <= value <= LARGEST:
        raise ArithmeticError(f"{value} is below 2 or above {LARGEST}")
    return value
