"""The data of the answer browser: every question with every model's answer, compressed into the page.

For each question the data also say what changed from base to each variant, with the two texts compared by difflib.
"""

import base64
import difflib
import gzip
import json
import re
from collections.abc import Mapping
from typing import Any, Literal, NotRequired, TypedDict

from gsm8k_grpo.records import ChangeKind, GradedAnswer, GradedSamples
from gsm8k_grpo.stages.compare.attribution import change_kind
from gsm8k_grpo.stages.report.results import Results

WORDS = re.compile(r"</?\w+>|\s+|\w+|[^\w\s]")  # a tag is one word

Piece = tuple[Literal["=", "+", "-"], str]
"""A piece of two texts: in both, in the second only, or in the first only."""


class BrowserAnswer(TypedDict):
    text: str
    strict: bool
    flexible: bool
    cut: bool
    tokens: int
    samples: NotRequired[list[int]]
    """How many sampled answers are correct, and how many there are."""


class Change(TypedDict):
    """How the answer of a variant differs from that of base."""

    result: Literal["fixed", "broken", "right", "wrong"]
    by: ChangeKind | None
    """What changed if strict accuracy differs, see `compare.attribution`."""
    diff: list[Piece]


class BrowserQuestion(TypedDict):
    id: str
    question: str
    gold: str
    answers: list[BrowserAnswer]
    """One answer per model."""
    changes: list[Change]
    """One change per variant."""


class BrowserTask(TypedDict):
    name: str
    questions: list[BrowserQuestion]
    """The questions in the order of their set."""


class BrowserData(TypedDict):
    models: list[str]
    tasks: list[BrowserTask]
    """The test split with the training prompt comes first."""


def compressed(data: Mapping[str, Any]) -> str:
    """The data as gzipped JSON in base64, for the browser's DecompressionStream.  The same data give the same text."""
    return base64.b64encode(gzip.compress(json.dumps(data, ensure_ascii=False).encode(), mtime=0)).decode()


def browser_data(results: Results) -> BrowserData:
    """The answers to all tasks; those to the first task also say how many sampled answers are correct."""
    samples = {model: {row["id"]: row for row in rows} for model, rows in results.sampled.items()}
    first_task = _task("test", results.answers, samples)
    further_tasks = [_task(name, answers, {}) for name, answers in results.further.items()]
    return {"models": list(results.answers), "tasks": [first_task, *further_tasks]}


def _task(
    name: str, by_model: dict[str, list[GradedAnswer]], samples: dict[str, dict[str, GradedSamples]]
) -> BrowserTask:
    questions: list[BrowserQuestion] = [
        {
            "id": answers[0]["id"],
            "question": answers[0]["question"],
            "gold": answers[0]["gold"],
            "answers": [
                _answer(answer, samples.get(model, {}).get(answer["id"]))
                for model, answer in zip(by_model, answers, strict=True)
            ],
            "changes": [change(answers[0], answer) for answer in answers[1:]],
        }
        for answers in zip(*by_model.values(), strict=True)
    ]
    return {"name": name, "questions": questions}


def _answer(answer: GradedAnswer, samples: GradedSamples | None) -> BrowserAnswer:
    shown: BrowserAnswer = {
        "text": answer["completion"],
        "strict": answer["strict_correct"],
        "flexible": answer["flexible_correct"],
        "cut": answer["truncated"],
        "tokens": answer["completion_tokens"],
    }
    if samples is not None:
        shown["samples"] = [sum(samples["strict_correct"]), len(samples["strict_correct"])]
    return shown


def change(before: GradedAnswer, after: GradedAnswer) -> Change:
    """How the answer to one question changed."""
    differ = before["strict_correct"] != after["strict_correct"]
    result: Literal["fixed", "broken", "right", "wrong"]
    if differ:
        result = "fixed" if after["strict_correct"] else "broken"
    else:
        result = "right" if after["strict_correct"] else "wrong"
    return {
        "result": result,
        "by": change_kind(before, after) if differ else None,
        "diff": differences(before["completion"], after["completion"]),
    }


def differences(before: str, after: str) -> list[Piece]:
    """Both texts in pieces: `=` is in both, `-` only in the first, `+` only in the second."""
    a, b = WORDS.findall(before), WORDS.findall(after)
    pieces: list[Piece] = []
    for tag, a_from, a_to, b_from, b_to in difflib.SequenceMatcher(str.isspace, a, b).get_opcodes():
        if tag == "equal":
            pieces.append(("=", "".join(b[b_from:b_to])))
            continue
        if a_to > a_from:
            pieces.append(("-", "".join(a[a_from:a_to])))
        if b_to > b_from:
            pieces.append(("+", "".join(b[b_from:b_to])))
    return pieces
