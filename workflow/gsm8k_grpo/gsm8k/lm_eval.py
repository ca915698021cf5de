r"""Grade answers exactly as lm-evaluation-harness does in its task gsm8k, to compare with published accuracies.

`strict_answer` is its filter `strict-match`, `flexible_answer` its filter `flexible-extract`, and `same_answer` its
metric `exact_match`.  tests/unit/gsm8k/test_lm_eval.py compares each with the harness itself.  Source:
https://github.com/EleutherAI/lm-evaluation-harness/blob/v0.4.13/lm_eval/tasks/gsm8k/gsm8k.yaml

The project's own extraction, in answers.py, differs, and both are reported:

- Our strict grading takes the number between the answer tags, as the prompt asks.  The harness takes the first number
  after `#### `, a mark that only GSM8K's own solutions have.
- Our flexible grading compares the last number as a number: `72`, `72.0` and the full-width form are the same.  The
  harness compares texts: for it `72.0` differs from `72`, the answer in `72 ...` is `...`, in `5-3` it is `-3`, and in
  `72...` it is `72..`.
"""

import re

STRICT = re.compile(r"#### (\-?[0-9\.\,]+)")
FLEXIBLE = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")
FINAL_STOP = re.compile(r"\.$")


def strict_answer(completion: str) -> str | None:
    """The text of the first number after `#### `; None if there is none."""
    match = STRICT.search(completion)
    return match[1] if match else None


def flexible_answer(completion: str) -> str | None:
    """The text of the last number, or of the last two or more of the characters `$.,`; None if there is neither."""
    matches = [match[0] for match in FLEXIBLE.finditer(completion)]
    return matches[-1] if matches else None


def strict_correct(completion: str, solution: str) -> bool:
    """Whether a completion is correct by strict-match; `solution` is the answer as published."""
    return same_answer(strict_answer(completion), solution)


def flexible_correct(completion: str, solution: str) -> bool:
    """Whether a completion is correct by flexible-extract; `solution` is the answer as published."""
    return same_answer(flexible_answer(completion), solution)


def same_answer(answer: str | None, solution: str) -> bool:
    """Whether an answer is the text after `#### ` in the published solution, ignoring `,`, `$` and a final full stop.

    Texts are compared: `0.5` is not `.5`.  In GSM8K itself the normalised gold answer is equivalent to the solution, in
    other data it need not be.
    """
    return answer is not None and _comparable(answer) == _comparable(solution)


def _comparable(text: str) -> str:
    # The harness deletes the expression `(?s).*#### `, which takes quadratic time where the mark is missing.
    text = text.replace(",", "").replace("$", "").rpartition("#### ")[2]
    return FINAL_STOP.sub("", text).lower()
