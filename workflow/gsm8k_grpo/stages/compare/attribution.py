"""Attribute a difference in strict accuracy: did the number change, or only its format?

Only questions on which two models differ in strict accuracy count: `fixed` ones were wrong and became correct, `broken`
ones were correct and became wrong.  What changed is one of three kinds, derived from their rows of answers.jsonl:

- `format`: the last number of the text (flexible) was correct before and after, so only the format changed;
- `answer`: the text was well-formed before and after, so only the number changed;
- `both`: otherwise.  The flexible answer was wrong on one side, and the format on one side or both.

The order of these rules matters in one case.  A text that is well-formed and ends in the correct number, but whose tags
hold something that is not a number ("72 apples"), gave the correct number in a wrong format, and counts as `format`.
"""

from collections import Counter
from collections.abc import Sequence
from typing import get_args

from gsm8k_grpo.records import ChangeKind, Changes, GradedAnswer

KINDS: tuple[ChangeKind, ...] = get_args(ChangeKind)


def change_kind(a: GradedAnswer, b: GradedAnswer) -> ChangeKind:
    """What changed on one question, from the answers of two models that differ in strict_correct."""
    if a["flexible_correct"] and b["flexible_correct"]:
        return "format"
    return "answer" if a["format_ok"] and b["format_ok"] else "both"


def attribute(a: Sequence[GradedAnswer], b: Sequence[GradedAnswer]) -> Changes:
    """Questions fixed and broken by kind, and each kind's part of the strict difference, b minus a.

    The parts, `points`, are shares of the n questions, like the difference.  They add up to the difference, because
    each fixed or broken question counts once.
    """
    fixed: Counter[ChangeKind] = Counter()
    broken: Counter[ChangeKind] = Counter()
    for before, after in zip(a, b, strict=True):
        if before["strict_correct"] != after["strict_correct"]:
            (fixed if after["strict_correct"] else broken)[change_kind(before, after)] += 1
    return {
        "n": len(a),
        "fixed": {kind: fixed[kind] for kind in KINDS},
        "broken": {kind: broken[kind] for kind in KINDS},
        "points": {kind: (fixed[kind] - broken[kind]) / len(a) for kind in KINDS},
    }
