"""Problems with their prompts, the rows that are left out, and what a test set shares with train."""

from typing import NotRequired, TypedDict

from gsm8k_grpo.records.chat import Message


class Example(TypedDict):
    """results/extract/{train,validation,test}.jsonl and sets/<set>.jsonl: a problem with its prompt."""

    id: str
    """`test-17`: the split or set it was downloaded as, and its line there, counted from 0."""
    prompt: list[Message]
    """The messages of the training prompt."""
    question: str
    answer: str | None
    """The gold number in normal form.  None for a free answer without a number (only in the train split), for a
    formula in a further set that compares formulas, and for a question that can't be answered."""
    solution: str
    """The answer as published."""


class ExtractMetrics(TypedDict):
    """results/extract/metrics.json."""

    train_rows: int
    validation_rows: int
    test_rows: int
    copies: dict[str, int]
    """For the downloaded train and test split, the number of rows whose question an earlier row asks too."""
    validation_copies_left_out: int
    """Rows of train left out because validation asks their question."""
    validation_rows_without_number: NotRequired[int]
    """Rows left out since their free answer has no number to grade by."""
    test_rows_without_number: NotRequired[int]


class SetMetrics(TypedDict):
    """results/extract/sets/metrics.json has one of these per further test set, by its name."""

    rows: int
    left_out: int
    """The number of questions that were left out, since their answer is not a number."""
    unanswerable: NotRequired[int]
    """The number of rows whose question can't be answered; only for a set that says how such rows are marked."""


class Overlap(TypedDict):
    """A row of results/extract/overlap.json: what a test set shares with the downloaded train split."""

    set: str
    n: int
    """The number of questions in the set."""
    exact: int
    """The number of questions that are also in train."""
    ngram: int
    """The number of questions that share `size` consecutive words with one of train; exact ones count too if they are
    that long."""
    size: int
    examples: list[str]
    """The ids of at most ten such questions, exact ones first."""
