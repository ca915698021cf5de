"""The problems as their source publishes them, and where they come from."""

from typing import Literal, TypedDict


class PublishedProblem(TypedDict):
    """results/download/{train,test}.jsonl and sets/<set>.jsonl: a problem as its source publishes it."""

    question: str
    answer: str
    """The solution, which ends in `#### 72`; in further test sets it may be a number alone."""


class FileDigest(TypedDict):
    rows: int
    sha256: str


class Origin(TypedDict):
    """Where problems come from."""

    origin: str
    """Name of the data set, of the folder or file, or of the generator."""
    revision: str | None
    """Commit of the data set, or seed of the generator; None for a local folder or file."""
    licence: str


class Source(Origin):
    """results/download/source.json: where the problems of both splits come from."""

    source: Literal["hub", "local", "generated"]
    files: dict[str, FileDigest]
    """By file name: `train.jsonl` and `test.jsonl`."""


class SetSource(Origin):
    """results/download/sets/source.json has one of these per further test set, by its name."""

    rows: int
    sha256: str
