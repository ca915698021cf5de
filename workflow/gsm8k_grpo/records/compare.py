"""Differences between models on the same questions, their parts, and the spread over seeds."""

from typing import Literal, TypedDict

from gsm8k_grpo.records.interval import Interval


class PairedDifference(TypedDict):
    """The difference of an accuracy between two models on the same questions."""

    difference: float
    """b minus a, as a share."""
    ci95: Interval
    """Paired bootstrap interval of the difference."""
    p_value: float
    """Exact two-sided p of McNemar's test."""
    n: int
    fixed: int
    """Questions that only b answers right."""
    broken: int
    """Questions that only a answers right."""


class Comparison(PairedDifference):
    """A row of results/compare/comparison.json."""

    a: str
    b: str
    metric: str
    p_holm: float
    """`p_value` after Holm's correction over all rows."""


ChangeKind = Literal["format", "answer", "both"]
"""What changed on a question that only one of two models answers right, see `stages.compare.attribution`."""


class Changes(TypedDict):
    """The difference of two models in strict accuracy, split by what changed."""

    n: int
    fixed: dict[ChangeKind, int]
    broken: dict[ChangeKind, int]
    points: dict[ChangeKind, float]
    """Each kind's part of the difference, as a share; the parts add up to it."""


class Attribution(Changes):
    """A row of results/compare/gains.json."""

    a: str
    b: str


class Spread(TypedDict):
    """A metric over several seeds."""

    seeds: list[int]
    values: list[float]
    mean: float
    sd: float | None
    """Sample standard deviation; None with one seed."""


class SeedSpread(Spread):
    """A row of results/compare/seeds.json: an accuracy of a variant over its seeds."""

    variant: str
    metric: str
