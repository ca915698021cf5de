r"""Answers read as lm-evaluation-harness reads them in its task gsm8k, so that figures can stand side by side.

`strict_answer` is its filter `strict-match`, `flexible_answer` its filter `flexible-extract`, `same_answer` its metric
`exact_match`; tests/unit/gsm8k/test_lm_eval.py holds each against the harness itself.  Source:
https://github.com/EleutherAI/lm-evaluation-harness/blob/v0.4.13/lm_eval/tasks/gsm8k/gsm8k.yaml

Ours, in extract.py, are readings of their own, and stay beside these:
- ours strict takes the number between the answer tags, as the prompt asks; the harness the first behind `#### `, which
  only GSM8K's own manner of writing has;
- ours flexible takes the last number as a number: `72`, `72.0` and the full-width form are the same.  The harness
  compares texts: it takes `72.0` for another answer than `72`, the `...` behind `72 ...` for the answer, the `-3` of
  `5-3`, and for `72...` it compares `72..`.
"""

import re

STRICT = re.compile(r"#### (\-?[0-9\.\,]+)")
FLEXIBLE = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")
IGNORED = [re.compile(pattern) for pattern in (",", r"\$", r"(?s).*#### ", r"\.$")]


def strict_answer(completion: str) -> str | None:
    """The text of the first number behind `#### `; None where there is none."""
    found = STRICT.search(completion)
    return found[1] if found else None


def flexible_answer(completion: str) -> str | None:
    """The text of the last number, or of the last two or more of the characters `$.,`; None where there is neither."""
    found = [match[0] for match in FLEXIBLE.finditer(completion)]
    return found[-1] if found else None


def right(completion: str, gold: str) -> dict[str, bool]:
    """Whether a completion is right by each of the two readings, under the names of the measures."""
    return {
        "harness_strict": same_answer(strict_answer(completion), gold),
        "harness_flexible": same_answer(flexible_answer(completion), gold),
    }


def same_answer(answer: str | None, solution: str) -> bool:
    """Whether an answer is the text behind `#### ` in the published solution, but for `,`, `$` and a last full stop.

    The normalised gold answer may stand for the solution: for every row of GSM8K the two are the same.
    """
    return answer is not None and _compared(answer) == _compared(solution)


def _compared(text: str) -> str:
    for pattern in IGNORED:
        text = pattern.sub("", text)
    return text.lower()
