"""The model that training starts from, and how it was pretrained if it was made here."""

from typing import TypedDict


class BaseModelFile(TypedDict):
    """results/base/base.json: the model that training starts from."""

    model: str
    """A folder, or a name on the hub."""
    sha256: dict[str, str]
    """Digest of each file of the folder; empty for a model on the hub."""


class BaseMetrics(TypedDict):
    """results/base/metrics.json, which only a model from scratch (`model: scratch`) has."""

    parameters: int
    vocabulary: int
    documents: int
    documents_cut: int
    """Documents longer than the context."""
    distinct_problems: int
    steps: int
    loss: float
    seconds: float
