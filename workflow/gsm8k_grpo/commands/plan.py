"""`gsm8k-grpo plan`: the memory that training takes, part by part, before anything is downloaded."""

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.memory import advice, shapes, suitability


def plan(params: Params, gpu_gib: float | None) -> str:
    """The memory plan as text: a table of its parts, whether they fit, and what to change if they do not.

    Args:
        gpu_gib: GiB of GPU memory.  None means `vram_gib` or the memory of this machine's GPU, whichever is less.

    Raises:
        PipelineError: if the model does not suit the configuration.
    """
    suitability.require_suitable(params)
    size = advice.gpu_gib(params) if gpu_gib is None else gpu_gib
    return advice.report(params, shapes.shape_of(params), size)
