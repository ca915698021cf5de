"""How a stage that computes on GPUs runs: it claims them, holds its lock, and starts a process for each."""

from collections.abc import Callable

from gsm8k_grpo.commands.options import exclusive
from gsm8k_grpo.commands.provenance import noted
from gsm8k_grpo.config.params import Params
from gsm8k_grpo.runtime import gpus, ranks


def on_gpus(stage: str, model: str, settings: Params, count: int, work: Callable[[], None]) -> None:
    """Run the work of a stage for one model in this process, or in a process for each of several GPUs.

    Args:
        settings: the configuration that is noted next to the result.
        count: GPUs that work together.
        work: imports the stage and runs it.
    """
    if ranks.inside():
        # The ranks of a process that was killed end a little later than it.
        with exclusive(stage, f"{model}-rank-{ranks.rank()}"), ranks.together():
            work()
        return
    with exclusive(stage, model), gpus.claimed(count), noted(stage, settings, model):
        if count > 1:
            ranks.run(count)
        else:
            work()
