"""`gsm8k-grpo plan`: the memory that training takes, part by part, before anything is downloaded."""

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.memory import advice, shapes


def plan(params: Params, gpu_gib: float | None) -> str:
    """The memory plan as text: the table, whether it fits `gpu_gib` GiB, and what to change where it does not.

    Without `gpu_gib` the size is `vram_gib` or the memory of the GPU of this machine, whichever is less.
    """
    size = advice.gpu_gib(params) if gpu_gib is None else gpu_gib
    return advice.report(params, shapes.shape_of(params), size)
