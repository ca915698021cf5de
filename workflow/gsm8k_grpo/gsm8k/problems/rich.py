"""The set `rich`: two to six calculations, numbers to 1000, many stories.

A problem is a story of one quantity (things, dollars, kilometres, pages or minutes) to which the events of
`stories.py` happen: rates, comparisons, fractions, percentages, money and time, and now and then a number that
doesn't matter.  The solution has a line per calculation:

    The boxes hold 7*24=<<7*24=168>>168 stamps.
    Omar gets 168/4=<<168/4=42>>42 stamps.
    Mia keeps 168-42=<<168-42=126>>126 stamps.
    #### 126

All numbers are whole and results at most LARGEST.
"""

import random
import re

from gsm8k_grpo.gsm8k.problems.stories import ASIDES, EVENTS, ITEMS, NAMES, NUMBERS, OPENINGS, PARTS, QUESTIONS, Event

LARGEST = 1000
STEPS = (2, 2, 3, 3, 3, 4, 4, 5, 6)  # calculations of a problem; one drawn for each
ASIDE = 0.3  # share of the problems with a number that doesn't matter
DRAWS = 20  # of an event and its numbers, before a story is given up
LIMITS = (
    f"Every solution has {min(STEPS)} to {max(STEPS)} calculations with whole numbers and results of at most {LARGEST}."
)
SUMS = f"whole numbers and results to {LARGEST}"
CALCULATION = re.compile(r"\[([xyz])=([^\]]+)\]")
LETTER = re.compile(r"\{([a-z])\}")


def problem(rng: random.Random) -> dict[str, str]:
    """One problem as published: `question` and `answer` (the annotated solution with its `####` line)."""
    while True:
        told = _story(rng, rng.choice(STEPS))
        if told is not None:
            return told


def _story(rng: random.Random, steps: int) -> dict[str, str] | None:
    """A problem of so many calculations, None where no event fits any more."""
    words = dict(zip(("name", "friend"), rng.sample(NAMES, 2), strict=True)) | {"items": rng.choice(ITEMS)}
    kind, asks, quantity = "", None, 0
    sentences: list[str] = []
    lines: list[str] = []
    events: list[Event] = []
    while len(lines) < steps:
        happened = _next(rng, [event for event in _fitting(kind, steps - len(lines)) if event not in events], quantity)
        if happened is None:
            return None
        event, numbers, worked, quantity = happened
        values = words | numbers
        events.append(event)
        sentences.append(event.told.format(**values))
        lines += [line.format(**values) + "." for line in worked]
        kind, asks = event.to, event.asks
    if rng.random() < ASIDE:
        aside = rng.choice(ASIDES)
        sentences.insert(rng.randint(1, len(sentences)), aside.format(**words | _draw(rng, aside)))
    question = f"{'. '.join(sentences)}. {(asks or QUESTIONS[kind]).format(**words)}?"
    return {"question": question, "answer": "\n".join([*lines, f"#### {quantity}"])}


def _fitting(kind: str, left: int) -> list[Event]:
    """Events that can happen to a quantity of a kind with so many calculations left; a question ends the story."""
    events = EVENTS if kind else OPENINGS
    return [e for e in events if e.of == kind and (len(e.lines) == left if e.asks else len(e.lines) <= left)]


def _next(rng: random.Random, events: list[Event], quantity: int):
    """An event, its numbers, its lines worked out and the quantity after it; None where none was found."""
    for _ in range(DRAWS if events else 0):
        event = rng.choice(events)
        numbers = _draw(rng, event.told)
        try:
            return event, numbers, *_work(event.lines, numbers, quantity)
        except ArithmeticError:
            continue
    return None


def _draw(rng: random.Random, told: str) -> dict[str, int | str]:
    numbers: dict[str, int | str] = {letter: rng.choice(NUMBERS[letter]) for letter in LETTER.findall(told)}
    if "{part}" in told:
        numbers["d"], numbers["part"] = rng.choice(list(PARTS.items()))
    return numbers


def _work(lines: tuple[str, ...], numbers: dict[str, int | str], quantity: int) -> tuple[list[str], int]:
    """The lines with their calculations written out, and the quantity after them.

    Raises:
        ArithmeticError: where a result is not whole, below 2 or above LARGEST.
    """
    values = numbers | {"x": quantity}

    def written(match: re.Match[str]) -> str:
        terms = [str(values.get(term, term)) for term in re.split(r"([-+*/])", match[2])]
        values[match[1]] = result = _result(terms)
        sum_ = "".join(terms)
        return f"{sum_}=<<{sum_}={result}>>{result}"

    return [CALCULATION.sub(written, line) for line in lines], values["x"]


def _result(terms: list[str]) -> int:
    """What `["80", "*", "25", "/", "100"]` gives, from left to right."""
    value = int(terms[0])
    for operator, term in zip(terms[1::2], map(int, terms[2::2]), strict=True):
        if operator == "/" and value % term:
            raise ArithmeticError(f"{value}/{term} is not whole")
        value = {"+": value + term, "-": value - term, "*": value * term, "/": value // term}[operator]
    if not 2 <= value <= LARGEST:
        raise ArithmeticError(f"{value} is below 2 or above {LARGEST}")
    return value
