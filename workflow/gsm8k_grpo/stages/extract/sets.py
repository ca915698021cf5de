"""The part of stage `extract` for the further test sets, which `evaluate.sets` names.

Reads `results/download/sets/<name>.jsonl` and writes `results/extract/sets/<name>.jsonl` (`records.Example`),
`sets/metrics.json` (a `records.SetMetrics` by name) and `overlap.json`, which says what each test set shares with
train.
"""

from pathlib import Path

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.config.sections import Extract, QuestionSet
from gsm8k_grpo.files import PipelineError, read_jsonl, write_json, write_jsonl
from gsm8k_grpo.gsm8k.answers import number, published_answer
from gsm8k_grpo.gsm8k.formulas import published_formula
from gsm8k_grpo.records import Example, SetMetrics
from gsm8k_grpo.stages.extract.overlap import overlap
from gsm8k_grpo.stages.extract.stage import read_examples


def extract_sets(source: Path, target: Path, params: Params) -> None:
    """Run the stage for the further test sets, and look for questions of any test set in train.

    `target` must already hold the splits.  The validation rows count as train here, because they were cut from it.

    Raises:
        PipelineError: if a row is damaged, or its answer can't be graded by the comparison of the set.
    """
    sets: dict[str, list[Example]] = {}
    metrics: dict[str, SetMetrics] = {}
    for name, settings in params.evaluate.sets.items():
        sets[name], left_out = _gradable(source / "sets" / f"{name}.jsonl", settings, params.extract)
        metrics[name] = {"rows": len(sets[name]), "left_out": left_out}
        if settings.unanswerable:
            metrics[name]["unanswerable"] = sum(row["answer"] is None for row in sets[name])
    for name, rows in sets.items():
        write_jsonl(target / "sets" / f"{name}.jsonl", rows)
    write_json(target / "sets" / "metrics.json", metrics)
    train = [row for split in ("train", "validation") for row in read_jsonl(target / f"{split}.jsonl")]
    tests = {"test": read_jsonl(target / "test.jsonl")} | sets
    write_json(target / "overlap.json", overlap(train, tests, params.evaluate.overlap_words))


def _gradable(path: Path, settings: QuestionSet, params: Extract) -> tuple[list[Example], int]:
    """The rows of a further set whose answers can be graded, and how many others were left out.

    Unanswerable questions have no gold answer, but are kept.
    """

    def is_unanswerable(text: str) -> bool:
        return settings.unanswerable is not None and text.strip().casefold() == settings.unanswerable.casefold()

    def gold(text: str) -> str | None:
        if is_unanswerable(text):
            return None
        if settings.comparison == "math_verify":
            return number(published_formula(text))
        try:
            return published_answer(text)
        except ValueError as error:
            if settings.only_numbers:
                return None
            raise ValueError(
                f"{error}; evaluate.sets.{path.stem}.only_numbers: true leaves such rows out, and "
                "comparison: math_verify compares formulas"
            ) from None

    rows = read_examples(path, params, gold)
    if settings.comparison == "math_verify":
        return rows, 0
    numbers = [row for row in rows if row["answer"] is not None]
    if not numbers:
        raise PipelineError(f"{path}: no answer is a number; take {path.stem} out of evaluate.sets")
    gradable = [row for row in rows if row["answer"] is not None or is_unanswerable(row["solution"])]
    if settings.unanswerable and len(gradable) == len(numbers):
        raise PipelineError(
            f"evaluate.sets.{path.stem}.unanswerable = {settings.unanswerable}: {path} has no such answer; leave the "
            "key out, or name the text that marks questions without an answer"
        )
    return gradable, len(rows) - len(gradable)
