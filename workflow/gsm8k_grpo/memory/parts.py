"""A part of the memory plan, and the size of the numbers that parts consist of."""

from dataclasses import dataclass

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.models import loading

GIB = 2**30


@dataclass(frozen=True)
class Part:
    """Something that takes GPU memory; `counted` is False if it never exists at the same time as a larger part."""

    name: str
    gib: float
    remark: str
    counted: bool = True


def stored_bytes(params: Params) -> int:
    """The size in bytes of a weight in memory."""
    return loading.DTYPES[params.precision].itemsize


def computed_bytes(params: Params) -> int:
    """The size in bytes of a number in the type of computation."""
    return loading.DTYPES[loading.COMPUTED[params.precision]].itemsize
