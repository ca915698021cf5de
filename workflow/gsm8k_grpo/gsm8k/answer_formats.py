r"""The formats that a prompt can ask answers in: tags, `\boxed{}` or `####`.

Prompts, solutions to learn from, rewards and grading take their format from here, so that a model is asked for the same
format by which it is rewarded and graded.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from gsm8k_grpo.gsm8k.answers import MARK, after_thought, boxed_answer, free_answer, marked_answer, xml_answer
from gsm8k_grpo.gsm8k.tags import tagged, well_formed

Answers = Literal["gsm8k", "free"]
AnswerForm = Literal["tags", "boxed", "hash"]


@dataclass(frozen=True)
class AnswerFormat:
    """How answers of a format are read.

    Attributes:
        strict_answer: returns the text of the answer in a completion; None if it is not where the format has it.
        well_formed: returns whether a completion has the format: reasoning, then exactly one answer.
        place: where the format has the answer, in the words of the report.
    """

    strict_answer: Callable[[str], str | None]
    well_formed: Callable[[str], bool]
    place: str


def _is_boxed(text: str) -> bool:
    reasoning, _, _ = after_thought(text).partition(r"\boxed")
    return text.count(r"\boxed") == 1 and bool(boxed_answer(text)) and _says_something(reasoning)


def _ends_in_mark(text: str) -> bool:
    reasoning, _, _ = after_thought(text).partition(MARK)
    return free_answer(text) is not None and _says_something(reasoning)


def _says_something(text: str) -> bool:
    return any(map(str.isalnum, text))


FORMATS: dict[AnswerForm, AnswerFormat] = {
    "tags": AnswerFormat(xml_answer, well_formed, "between the answer tags"),
    "boxed": AnswerFormat(boxed_answer, _is_boxed, r"in \boxed{}"),
    "hash": AnswerFormat(marked_answer, _ends_in_mark, f"after {MARK}"),
}

MARKED = AnswerFormat(marked_answer, lambda text: marked_answer(text) is not None, f"after {MARK}")
"""The format of few-shot examples and of free answers.  No prompt asks for it, so it requires neither reasoning nor a
number at the very end."""


def formatted(form: AnswerForm, reasoning: str, answer: str) -> str:
    """A completion in the format that the system prompt asks for."""
    match form:
        case "tags":
            return tagged(reasoning, answer)
        case "boxed":
            return f"{reasoning}\n\\boxed{{{answer}}}"
        case "hash":
            return f"{reasoning}\n{MARK} {answer}"
