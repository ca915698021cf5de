"""Stage `extract`: gold answers, prompts, and a validation split cut from train.

Reads `results/download/{train,test}.jsonl`, writes `results/extract/{train,validation,test}.jsonl` with
`id, prompt, question, answer, solution` per row, and `metrics.json` with the counts.

The further test sets are extracted by `sets.py`.

The functions `gold_answer`, `xml_answer`, `last_number` and `same_answer` are the only place where
an answer is read or compared; rewards and evaluation use them too.
"""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsm8k_grpo.files import PipelineError, parse_jsonl, text_of, write_json, write_jsonl
from gsm8k_grpo.prompts import prompt

if TYPE_CHECKING:  # params knows the rewards by name, and the rewards read answers with this module
    from gsm8k_grpo.sections import Extract

# Full-width forms, as Chinese texts write numbers, stand 0xFEE0 above ASCII; U+2212 is the typographic minus,
# U+3002 the Chinese full stop.
FULL_WIDTH = str.maketrans({chr(ord(c) + 0xFEE0): c for c in "0123456789,.%$+-"} | {"\u2212": "-"})
DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+"
ANSWER = re.compile(rf"(?P<sign>[-+]?)\s?\$?\s?(?P<sign_inside>[-+]?)(?P<digits>{DIGITS})\s?%?[.\u3002]?")
NUMBER_IN_TEXT = re.compile(rf"(?:(?<![\w.)])-)?\$?(?:(?<=\$)-)?(?:{DIGITS})")
TAGGED_ANSWER = re.compile(r"<answer>((?:(?!<answer>).)*?)</answer>", re.DOTALL)


def number(text: str) -> str | None:
    """The normal form of a text that is one number, else None.

    Thousands separators, `$`, `%`, a trailing full stop and full-width characters are accepted; the normal
    form has none of them, no plus sign, no leading zeros and no trailing zeros: `$1,072.50` gives `1072.5`,
    `72.0` gives `72`.
    """
    match = ANSWER.fullmatch(text.translate(FULL_WIDTH).strip())
    if match is None or (match["sign"] and match["sign_inside"]):
        return None
    value = Decimal(match["digits"].replace(",", ""))
    negative = "-" in match["sign"] + match["sign_inside"] and value != 0
    digits = f"{value:f}"
    if "." in digits:
        digits = digits.rstrip("0").rstrip(".")
    return ("-" if negative else "") + digits


def gold_answer(solution: str) -> str:
    """The normalised number behind `####` in a GSM8K solution.

    Raises:
        ValueError: where `####` is missing or repeated, or what follows is not a number.
    """
    parts = solution.split("####")
    if len(parts) != 2:
        raise ValueError(f"the answer has {len(parts) - 1} '####' marks, exactly one is expected")
    answer = number(parts[1])
    if answer is None:
        raise ValueError(f"'{parts[1].strip()[:40]}' behind '####' is not a number")
    return answer


def free_answer(text: str) -> str | None:
    """The normalised number behind `####` in a free answer, None where there is none: no other is sure to answer."""
    try:
        return gold_answer(text)
    except ValueError:
        return None


def set_answer(text: str) -> str:
    """The normalised gold answer of a further test set: a number alone, or a GSM8K solution.

    Raises:
        ValueError: where it is neither.
    """
    if "####" in text:
        return gold_answer(text)
    answer = number(text)
    if answer is None:
        raise ValueError(f"the answer '{text.strip()[:40]}' is not a number")
    return answer


def xml_answer(completion: str) -> str | None:
    """The text of the last closed `<answer>` block, stripped; None where there is none."""
    blocks = TAGGED_ANSWER.findall(completion)
    return blocks[-1].strip() if blocks else None


def last_number(completion: str) -> str | None:
    """The last number of a text in normal form, whatever the format; None where there is none."""
    found = NUMBER_IN_TEXT.findall(completion.translate(FULL_WIDTH))
    return number(found[-1]) if found else None


def same_answer(a: str | None, b: str | None) -> bool:
    """Whether two texts are the same number: `1,072.0` and `$1072` are; a text that is no number never is."""
    return a is not None and b is not None and number(a) is not None and number(a) == number(b)


def extract(source: Path, target: Path, params: Extract, seed: int) -> None:
    """Run the stage: `source` is the folder of download, `target` the folder written."""
    gold = free_answer if params.answers == "free" else gold_answer
    train = rows_of(source / "train.jsonl", params, gold)
    test = rows_of(source / "test.jsonl", params, gold)
    _check_apart(train, test, source)
    if params.validation_rows >= len(train):
        raise PipelineError(
            f"extract.validation_rows = {params.validation_rows}: {source / 'train.jsonl'} has {len(train)} rows; "
            f"choose at most {len(train) - 1}"
        )
    picked = set(random.Random(seed).sample(range(len(train)), params.validation_rows))
    splits = {
        "train": [row for index, row in enumerate(train) if index not in picked],
        "validation": [row for index, row in enumerate(train) if index in picked],
        "test": test,
    }
    asked = ("validation", "test") if params.answers == "free" else ()
    left_out = {f"{name}_rows_without_number": _keep_judged(splits, name) for name in asked}
    for name, rows in splits.items():
        write_jsonl(target / f"{name}.jsonl", rows)
    write_json(target / "metrics.json", {f"{name}_rows": len(rows) for name, rows in splits.items()} | left_out)


def _keep_judged(splits: dict[str, list[dict[str, Any]]], name: str) -> int:
    """Leave in a split, which models are asked, the rows whose gold answer is known; how many are left out."""
    judged = [row for row in splits[name] if row["answer"] is not None]
    left_out = len(splits[name]) - len(judged)
    if left_out:
        print(
            f"extract: {left_out} of the {len(splits[name])} answers for {name} have no number behind '####'; without "
            "one an answer can't be told right from wrong, so these are not asked in the evaluation",
            file=sys.stderr,
        )
    splits[name] = judged
    return left_out


def _check_apart(train: list[dict[str, Any]], test: list[dict[str, Any]], source: Path) -> None:
    """No question stands in both splits, however it is spaced: its test answer would have been trained on."""
    lines = {" ".join(row["question"].split()): line for line, row in enumerate(test, start=1)}
    for line, row in enumerate(train, start=1):
        in_test = lines.get(" ".join(row["question"].split()))
        if in_test is not None:
            raise PipelineError(
                f"{source / 'train.jsonl'}:{line}: the same question stands in {source / 'test.jsonl'}:{in_test}; "
                "take it out of one of the two"
            )


def rows_of(path: Path, params: Extract, gold: Callable[[str], str | None]) -> list[dict[str, Any]]:
    """The rows of a file of download, in its order; `gold` reads an answer as published.

    Raises:
        PipelineError: with file and line, where a row is damaged or `gold` raises a ValueError.
    """
    split = path.stem

    def parse(row: dict[str, Any]) -> dict[str, Any]:
        question, solution = text_of(row, "question"), text_of(row, "answer")
        return {
            "prompt": prompt(question, params),
            "question": question,
            "answer": gold(solution),
            "solution": solution,
        }

    return [{"id": f"{split}-{index}"} | row for index, row in enumerate(parse_jsonl(path, parse))]
