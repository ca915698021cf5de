"""A part of the memory plan, and the bytes of the numbers that parts consist of."""

from dataclasses import dataclass

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.models import loading

GIB = 2**30


@dataclass(frozen=True)
class Part:
    """Something that takes memory; `counted` is False for memory that never coexists with a larger part."""

    name: str
    gib: float
    remark: str
    counted: bool = True


def stored_bytes(params: Params) -> int:
    """Bytes of a weight."""
    return loading.DTYPES[params.precision].itemsize


def computed_bytes(params: Params) -> int:
    """Bytes of a number in the computation."""
    return loading.DTYPES[loading.COMPUTED[params.precision]].itemsize
