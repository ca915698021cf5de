"""Where a strict difference came from: another number, or the same number in another form.

A question counts where strict accuracy differs between two models: `fixed` was wrong and is right, `broken` was right
and is wrong.  What changed on it is one of three kinds, told from three marks of its rows in answers.jsonl:

- `format`: the last number of the text (flexible) was right before and after, so that the form alone changed;
- `answer`: the form was the asked one (well-formed) before and after, so that the number alone changed;
- `both`: neither was the same.  Here the flexible answer was wrong on one side, and the form on one or both.

The order matters in one case: a text that is well-formed and ends in the right number, but tags something that is no
number ("72 apples"), gave the right number in a wrong form; it is `format`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

Kind = Literal["format", "answer", "both"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Row = Mapping[str, Any]


def change_kind(a: Row, b: Row) -> Kind:
    """What changed on one question, from its rows of answers.jsonl; their strict_correct differ."""
    if a["flexible_correct"] and b["flexible_correct"]:
        return "format"
    return "answer" if a["format_ok"] and b["format_ok"] else "both"


def attribute(a: Sequence[Row], b: Sequence[Row]) -> dict[str, Any]:
    """Questions fixed and broken by kind, and each kind's part of the strict difference, b minus a.

    The parts, `points`, are shares of the n questions like the difference itself; they add up to it, for fixed and
    broken questions are counted once each.
    """
    fixed, broken = Counter(), Counter()
    for before, after in zip(a, b, strict=True):
        if before["strict_correct"] != after["strict_correct"]:
            (fixed if after["strict_correct"] else broken)[change_kind(before, after)] += 1
    return {
        "n": len(a),
        "fixed": {name: fixed[name] for name in KINDS},
        "broken": {name: broken[name] for name in KINDS},
        "points": {name: (fixed[name] - broken[name]) / len(a) for name in KINDS},
    }
