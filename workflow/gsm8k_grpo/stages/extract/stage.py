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
from gsm8k_grpo.gsm8k.answers import free_answer, published_answer
from gsm8k_grpo.gsm8k.prompts import prompt, require_plain
from gsm8k_grpo.records import Example, ExtractMetrics
from gsm8k_grpo.stages.extract.duplicates import copies_in, require_disjoint, spaced_alike


def extract(source: Path, target: Path, params: Extract, seed: int) -> None:
    """Run the stage.

    Args:
        source: the folder that stage download wrote.
        target: the folder to write into.
        seed: chooses the rows of validation.

    Raises:
        PipelineError: if a row is damaged or has no gold answer, a question is in both splits or has two different
            gold answers in one of them, or train has too few questions for validation.
    """
    gold = free_answer if params.answers == "free" else published_answer
    published = read_examples(source / "train.jsonl", params, gold)
    test = read_examples(source / "test.jsonl", params, gold)
    require_disjoint(published, test, source)
    copies = {
        split: copies_in(rows, source / f"{split}.jsonl") for split, rows in (("train", published), ("test", test))
    }
    train, validation = _cut_validation(published, params.validation_rows, seed, source / "train.jsonl")
    gradable_validation, gradable_test = _gradable("validation", validation), _gradable("test", test)
    metrics: ExtractMetrics = {
        "train_rows": len(train),
        "validation_rows": len(gradable_validation),
        "test_rows": len(gradable_test),
        "copies": copies,
        "validation_copies_left_out": len(published) - len(train) - len(validation),
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
        gold: returns the gold number of an answer as published; None if it has none.

    Raises:
        PipelineError: if a row is damaged or `gold` raises a ValueError; the message names file and line.
    """
    ids = (f"{path.stem}-{index}" for index in itertools.count())

    def parse(row: dict[str, Any]) -> Example:
        question, solution = text_field(row, "question"), text_field(row, "answer")
        require_plain(question, "'question'")
        if params.answers != "free":  # in free answers, the markers of thoughts may look like control tokens
            require_plain(solution, "'answer'")
        return {
            "id": next(ids),
            "prompt": prompt(question, params),
            "question": question,
            "answer": gold(solution),
            "solution": solution,
        }

    return list(parse_jsonl(path, parse))


def _cut_validation(rows: list[Example], count: int, seed: int, path: Path) -> tuple[list[Example], list[Example]]:
    """The rows of train and of validation, both in the order of the file.

    Draws questions instead of rows.  Validation gets the first row of each drawn question; further copies of it are
    left out, because in train they would show what validation asks.
    """
    rows_by_question: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        rows_by_question.setdefault(spaced_alike(row["question"]), []).append(index)
    questions = list(rows_by_question.values())
    if count >= len(questions):
        raise PipelineError(
            f"extract.validation_rows = {count}: {path} has {len(questions)} questions; choose at most "
            f"{len(questions) - 1}"
        )
    drawn = [questions[place] for place in random.Random(seed).sample(range(len(questions)), count)]
    first, held_out = {copies[0] for copies in drawn}, {index for copies in drawn for index in copies}
    train = [row for index, row in enumerate(rows) if index not in held_out]
    return train, [row for index, row in enumerate(rows) if index in first]


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
