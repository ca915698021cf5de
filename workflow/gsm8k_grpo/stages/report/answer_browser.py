"""The data of the completions browser: every question with every model's answer, compressed into the page.

What changed from base to a variant is told for each question, and the two texts are laid side by side with difflib.
"""

import base64
import difflib
import gzip
import json
import re
from typing import Any

from gsm8k_grpo.stages.compare.attribution import change_kind
from gsm8k_grpo.stages.report.results import Results, Rows

WORDS = re.compile(r"</?\w+>|\s+|\w+|[^\w\s]")  # a tag is one word


def compressed(data: Any) -> str:
    """JSON, gzipped, as base64: what the browser's DecompressionStream reads.  The same data give the same text."""
    return base64.b64encode(gzip.compress(json.dumps(data, ensure_ascii=False).encode(), mtime=0)).decode()


def browser_data(found: Results) -> dict[str, Any]:
    """`models`, and `passes`, each with its `name` and its `questions` in the order of their set.

    A question has `id, question, gold`, `answers`, one of each model, and `changes`, one of each variant against base.
    The test split with the training prompt comes first; of its answers those drawn by chance are told, too.
    """
    drawn = {model: {row["id"]: row for row in rows} for model, rows in found.sampled.items()}
    passes = [_pass("test", found.answers, drawn), *(_pass(name, asked, {}) for name, asked in found.further.items())]
    return {"models": list(found.answers), "passes": passes}


def _pass(name: str, asked: dict[str, Rows], drawn: dict[str, dict[str, Any]]) -> dict[str, Any]:
    questions = [
        {key: answers[0][key] for key in ("id", "question", "gold")}
        | {"answers": [_answer(answer, drawn.get(model, {})) for model, answer in zip(asked, answers, strict=True)]}
        | {"changes": [change(answers[0], answer) for answer in answers[1:]]}
        for answers in zip(*asked.values(), strict=True)
    ]
    return {"name": name, "questions": questions}


def change(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """What became of a question: `result`, `by` where strict accuracy differs (see gains.py), and the `diff`."""
    right = (before["strict_correct"], after["strict_correct"])
    result = {
        (False, True): "fixed",
        (True, False): "broken",
        (True, True): "right",
        (False, False): "wrong",
    }[right]
    by = change_kind(before, after) if right[0] != right[1] else None
    return {"result": result, "by": by, "diff": differences(before["completion"], after["completion"])}


def differences(before: str, after: str) -> list[tuple[str, str]]:
    """The second text in pieces: `=` also stands in the first, `+` does not; `-` stood in the first alone."""
    a, b = WORDS.findall(before), WORDS.findall(after)
    pieces = []
    for tag, a_from, a_to, b_from, b_to in difflib.SequenceMatcher(str.isspace, a, b).get_opcodes():
        if tag == "equal":
            pieces.append(("=", "".join(b[b_from:b_to])))
            continue
        if a_to > a_from:
            pieces.append(("-", "".join(a[a_from:a_to])))
        if b_to > b_from:
            pieces.append(("+", "".join(b[b_from:b_to])))
    return pieces


def _answer(answer: dict[str, Any], drawn: dict[str, dict[str, Any]]) -> dict[str, Any]:
    shown = {
        "text": answer["completion"],
        "strict": answer["strict_correct"],
        "flexible": answer["flexible_correct"],
        "cut": answer["truncated"],
        "tokens": answer["completion_tokens"],
    }
    if answer["id"] in drawn:
        right = drawn[answer["id"]]["strict_correct"]
        shown["drawn"] = [sum(right), len(right)]
    return shown
