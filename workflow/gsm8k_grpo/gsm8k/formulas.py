r"""Compare answers that are formulas, such as `\frac{\pi}{2}` and `\pi/2`, by the library math-verify.

This is for test sets whose answers are not all numbers, such as MATH-500.  Formulas that the library can't read, or
can't compare within five seconds, count as different.  Source: https://github.com/huggingface/Math-Verify
"""

import logging
from functools import cache
from typing import Any

from gsm8k_grpo.gsm8k.answers import MARK, after_thought, boxed_answer


def published_formula(text: str) -> str:
    r"""The formula in an answer as published: the text in its last `\boxed{}`, after its last `####`, or all of it.

    Raises:
        ValueError: if math-verify can't read it.
    """
    formula = boxed_answer(text) or text.rpartition(MARK)[2].strip()
    if not _read(formula):
        raise ValueError(f"the answer '{formula[:40]}' is no formula that math-verify can read")
    return formula


def same_formula(answer: str | None, gold: str) -> bool:
    """Whether an answer, which is one formula, equals the gold formula."""
    return answer is not None and _verify(_read(gold), _read(answer))


def ends_in_formula(completion: str, gold: str) -> bool:
    """Whether the formula that math-verify takes for the answer in a longer text equals the gold formula."""
    return _verify(_read(gold), _library().parse(after_thought(completion)))


def _read(formula: str) -> list[Any]:
    return _library().parse(f"\\boxed{{{formula}}}")


def _verify(gold: list[Any], answer: list[Any]) -> bool:
    return bool(answer) and _library().verify(gold, answer)


@cache
def _library() -> Any:
    """math-verify, imported at the first use because its SymPy takes a second, and without its log, which would break
    progress bars.
    """
    import math_verify

    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    return math_verify
