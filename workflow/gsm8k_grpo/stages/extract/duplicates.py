"""Questions that occur twice: within a file, or in train and test."""

from pathlib import Path

from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.records import Example


def copies_in(rows: list[Example], path: Path) -> int:
    """The number of rows whose question an earlier row of the file asks too.

    Raises:
        PipelineError: if two such rows have different gold answers; the message names both lines.
    """
    first: dict[str, int] = {}
    for index, row in enumerate(rows):
        earlier = first.setdefault(spaced_alike(row["question"]), index)
        golds = rows[earlier]["answer"], row["answer"]
        if None not in golds and golds[0] != golds[1]:
            raise PipelineError(
                f"{path}:{index + 1}: the same question is in line {earlier + 1}, where the answer is {golds[0]} "
                f"instead of {golds[1]}; remove one of the two"
            )
    return len(rows) - len(first)


def require_disjoint(train: list[Example], test: list[Example], source: Path) -> None:
    """Refuse a question of test that is also in train, whatever its spacing: training would see its answer."""
    lines = {spaced_alike(row["question"]): line for line, row in enumerate(test, start=1)}
    for line, row in enumerate(train, start=1):
        line_in_test = lines.get(spaced_alike(row["question"]))
        if line_in_test is not None:
            raise PipelineError(
                f"{source / 'train.jsonl'}:{line}: the same question is in {source / 'test.jsonl'}:{line_in_test}; "
                "remove it from one of the two"
            )


def spaced_alike(question: str) -> str:
    """The question with single spaces, so that spacing makes no difference in a comparison."""
    return " ".join(question.split())
