"""Stage `extract`: gold answers, prompts, and a validation split cut from train.

Reads `results/download/{train,test}.jsonl` and writes `results/extract/{train,validation,test}.jsonl`
(`records.Example`) and `metrics.json` (`records.ExtractMetrics`).  `sets.py` extracts the further test sets.
"""

import itertools
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gsm8k_grpo.config.sections import Extract
from gsm8k_grpo.files import PipelineError, parse_jsonl, text_field, write_json, write_jsonl
from gsm8k_grpo.gsm8k.answers import free_answer, gold_answer
from gsm8k_grpo.gsm8k.prompts import prompt
from gsm8k_grpo.records import Example, ExtractMetrics


def extract(source: Path, target: Path, params: Extract, seed: int) -> None:
    """Run the stage.

    Args:
        source: the folder that stage download wrote.
        target: the folder to write into.
        seed: chooses the rows of validation.

    Raises:
        PipelineError: where a row is damaged or has no gold answer, a question is in both splits, or train has too
            few rows for validation.
    """
    gold = free_answer if params.answers == "free" else gold_answer
    train = read_examples(source / "train.jsonl", params, gold)
    test = read_examples(source / "test.jsonl", params, gold)
    _require_disjoint(train, test, source)
    if params.validation_rows >= len(train):
        raise PipelineError(
            f"extract.validation_rows = {params.validation_rows}: {source / 'train.jsonl'} has {len(train)} rows; "
            f"choose at most {len(train) - 1}"
        )
    chosen = set(random.Random(seed).sample(range(len(train)), params.validation_rows))
    validation = [row for index, row in enumerate(train) if index in chosen]
    train = [row for index, row in enumerate(train) if index not in chosen]
    gradable_validation, gradable_test = _gradable("validation", validation), _gradable("test", test)
    metrics: ExtractMetrics = {
        "train_rows": len(train),
        "validation_rows": len(gradable_validation),
        "test_rows": len(gradable_test),
    }
    if params.answers == "free":
        metrics["validation_rows_without_number"] = len(validation) - len(gradable_validation)
        metrics["test_rows_without_number"] = len(test) - len(gradable_test)
    splits = {"train": train, "validation": gradable_validation, "test": gradable_test}
    for name, rows in splits.items():
        write_jsonl(target / f"{name}.jsonl", rows)
    write_json(target / "metrics.json", metrics)


def read_examples(path: Path, params: Extract, gold: Callable[[str], str | None]) -> list[Example]:
    """The rows of a file of stage download as examples, in the same order.

    Args:
        gold: gives the gold number of an answer as published; None where it has none.

    Raises:
        PipelineError: with file and line, where a row is damaged or `gold` raises a ValueError.
    """
    ids = (f"{path.stem}-{index}" for index in itertools.count())

    def parse(row: dict[str, Any]) -> Example:
        question, solution = text_field(row, "question"), text_field(row, "answer")
        return {
            "id": next(ids),
            "prompt": prompt(question, params.answers, params.language, params.one_shot),
            "question": question,
            "answer": gold(solution),
            "solution": solution,
        }

    return list(parse_jsonl(path, parse))


def _gradable(split: str, rows: list[Example]) -> list[Example]:
    """The rows whose answer is a number, which are all of them unless answers are free.

    Evaluation leaves out the others; a message says how many.
    """
    gradable = [row for row in rows if row["answer"] is not None]
    left_out = len(rows) - len(gradable)
    if left_out:
        print(
            f"extract: {left_out} of the {len(rows)} answers of {split} have no number after '####'.  They can't be "
            "graded, so the evaluation leaves out their questions.",
            file=sys.stderr,
        )
    return gradable


def _require_disjoint(train: list[Example], test: list[Example], source: Path) -> None:
    """Refuse a question of test that is also in train, whatever its spacing: training would see its answer."""
    lines = {_spaced_alike(row["question"]): line for line, row in enumerate(test, start=1)}
    for line, row in enumerate(train, start=1):
        line_in_test = lines.get(_spaced_alike(row["question"]))
        if line_in_test is not None:
            raise PipelineError(
                f"{source / 'train.jsonl'}:{line}: the same question is in {source / 'test.jsonl'}:{line_in_test}; "
                "remove it from one of the two"
            )


def _spaced_alike(question: str) -> str:
    return " ".join(question.split())
