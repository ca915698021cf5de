"""Further test sets, which `evaluate.sets` names: their part of the stage `extract`.

Reads `results/download/sets/<name>.jsonl`, writes `results/extract/sets/<name>.jsonl` with the keys of the splits, and
a `metrics.json` with the counts of each; `results/extract/overlap.json` tells what every test set shares with train.
"""

from pathlib import Path
from typing import Any

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.config.sections import Extract, QuestionSet
from gsm8k_grpo.files import PipelineError, read_jsonl, write_json, write_jsonl
from gsm8k_grpo.gsm8k.answers import set_answer
from gsm8k_grpo.stages.extract.overlap import overlap
from gsm8k_grpo.stages.extract.stage import rows_of

Rows = list[dict[str, Any]]


def extract_sets(source: Path, target: Path, params: Params) -> None:
    """Run the stage for the further test sets, and look for questions of any test set in train.

    `target` holds the splits already.  Train is here the whole of it, the rows cut for validation among them.
    """
    sets = {
        name: _set(source / "sets" / f"{name}.jsonl", wanted, params.extract)
        for name, wanted in params.evaluate.sets.items()
    }
    for name, (rows, _) in sets.items():
        write_jsonl(target / "sets" / f"{name}.jsonl", rows)
    counts = {name: {"rows": len(rows), "left_out": left_out} for name, (rows, left_out) in sets.items()}
    write_json(target / "sets" / "metrics.json", counts)
    train = [row for split in ("train", "validation") for row in read_jsonl(target / f"{split}.jsonl")]
    tested = {"test": read_jsonl(target / "test.jsonl")} | {name: rows for name, (rows, _) in sets.items()}
    write_json(target / "overlap.json", overlap(train, tested, params.evaluate.overlap_words))


def _set(path: Path, wanted: QuestionSet, params: Extract) -> tuple[Rows, int]:
    """The rows of a further set, and how many were left out as their answer is no number."""

    def gold(text: str) -> str | None:
        try:
            return set_answer(text)
        except ValueError as error:
            if wanted.only_numbers:
                return None
            raise ValueError(f"{error}; evaluate.sets.{path.stem}.only_numbers: true leaves such rows out") from None

    rows = rows_of(path, params, gold)
    judged = [row for row in rows if row["answer"] is not None]
    if not judged:
        raise PipelineError(f"{path}: no row has a number for an answer; take {path.stem} out of evaluate.sets")
    return judged, len(rows) - len(judged)
