"""Stage `extract`: gold answers, prompts, and a validation split cut from train.

Reads `results/download/{train,test}.jsonl`, writes `results/extract/{train,validation,test}.jsonl` with
`id, prompt, question, answer, solution` per row, and `metrics.json` with the counts.

The further test sets are extracted by `sets.py`.
"""

import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gsm8k_grpo.config.sections import Extract
from gsm8k_grpo.files import PipelineError, parse_jsonl, text_field, write_json, write_jsonl
from gsm8k_grpo.gsm8k.answers import free_answer, gold_answer
from gsm8k_grpo.gsm8k.prompts import prompt


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
        question, solution = text_field(row, "question"), text_field(row, "answer")
        return {
            "prompt": prompt(question, params.answers, params.language, params.one_shot),
            "question": question,
            "answer": gold(solution),
            "solution": solution,
        }

    return [{"id": f"{split}-{index}"} | row for index, row in enumerate(parse_jsonl(path, parse))]
