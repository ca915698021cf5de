"""Extract answers: the gold number of a solution, the number a model gives, and whether two answers are the same.

Extraction, the robust rewards and grading share these functions, so that they agree on what a correct answer is.  How a
number is read is in numbers.py.
"""

import re

from gsm8k_grpo.gsm8k import numbers
from gsm8k_grpo.gsm8k.numbers import number

MARK = "####"
BOX_OR_BRACE = re.compile(r"(?P<box>\\boxed\s*\{)|\\[{}]|(?P<opens>\{)|(?P<closes>\})")


def after_thought(text: str) -> str:
    """The part of a text that answers: what follows the last `</think>`, up to a `<think>` that is never closed.

    Reasoning models write drafts inside `<think>`, with tags and numbers, which are not their answer.
    """
    return text.rpartition("</think>")[2].partition("<think>")[0]


def gold_answer(solution: str) -> str:
    """The number after `####` in a GSM8K solution, in normal form.

    Raises:
        ValueError: if `####` is missing or repeated, or the text after it is not a number.
    """
    parts = after_thought(solution).split(MARK)
    if len(parts) != 2:
        raise ValueError(f"the answer has {len(parts) - 1} '####' marks, exactly one is expected")
    answer = number(parts[1])
    if answer is None:
        raise ValueError(f"'{parts[1].strip()[:40]}' after '####' is not a number")
    return answer


def free_answer(text: str) -> str | None:
    """The number after `####` in a free answer, in normal form; None if the answer has no such number.

    Other numbers are ignored, because nothing says which of them answers the question.
    """
    try:
        return gold_answer(text)
    except ValueError:
        return None


def published_answer(text: str) -> str:
    """The gold number of an answer as published, in normal form; `text` is a number or a GSM8K solution.

    Raises:
        ValueError: if `text` is neither.
    """
    if MARK in text:
        return gold_answer(text)
    answer = number(text)
    if answer is None:
        raise ValueError(f"the answer '{text.strip()[:40]}' is not a number")
    return answer


def xml_answer(completion: str) -> str | None:
    """The text of the last closed `<answer>` block, stripped; None if there is none."""
    for block in reversed(after_thought(completion).split("<answer>")[1:]):
        answer, closed, _ = block.partition("</answer>")
        if closed:
            return answer.strip()
    return None


def boxed_answer(completion: str) -> str | None:
    r"""The text of the last closed `\boxed{}`, stripped; None if there is none.  Braces inside it are balanced."""
    text, answer = after_thought(completion), None
    open_braces: list[int | None] = []  # where the box of each open brace begins; None for a brace without a box
    for match in BOX_OR_BRACE.finditer(text):
        if match["box"]:
            open_braces.append(match.end())
        elif match["opens"]:
            open_braces.append(None)
        elif match["closes"] and open_braces:
            begin = open_braces.pop()
            if begin is not None:
                answer = text[begin : match.start()].strip()
    return answer


def marked_answer(completion: str) -> str | None:
    """The number after the first `####` that a number follows, in normal form; None if there is none.

    The number is read as `gold_answer` reads it, but words may follow it.
    """
    for text in after_thought(completion).split(MARK)[1:]:
        answer = number(text) or numbers.first_number(text)
        if answer is not None:
            return answer
    return None


def last_number(completion: str) -> str | None:
    """The last number of an answer in normal form, whatever the format; None if there is none."""
    return numbers.last_number(after_thought(completion))


def same_answer(a: str | None, b: str | None) -> bool:
    """Whether two texts are the same number, as `1,072.0` and `$1072` are; False if either is not a number."""
    return a is not None and b is not None and number(a) is not None and number(a) == number(b)
