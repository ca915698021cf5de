"""How a stage that computes on GPUs runs: it claims them, holds its lock, and starts a process for each."""

from collections.abc import Callable
from contextlib import nullcontext

from gsm8k_grpo.commands.options import exclusive
from gsm8k_grpo.commands.provenance import noted
from gsm8k_grpo.config.params import Params
from gsm8k_grpo.runtime import gpus, nodes, ranks


def on_gpus(stage: str, model: str, settings: Params, count: int, work: Callable[[], None]) -> None:
    """Run the work of a stage for one model in this process, or in a process for each of several GPUs.

    In a Slurm job of several nodes these processes run on all of them, and each claims a GPU of its node.

    Args:
        settings: the configuration that is noted next to the result.
        count: the number of GPUs that work together.
        work: a function that imports the stage and runs it.
    """
    if ranks.inside():
        # If the process that started the ranks is killed, they end a little later, and so need a lock of their own.
        own = gpus.claimed() if ranks.on_nodes() else nullcontext()
        with exclusive(stage, f"{model}-rank-{ranks.rank()}"), own, ranks.together():
            work()
        return
    hosts = nodes.of_job() if count > 1 else []
    claimed = nullcontext() if len(hosts) > 1 else gpus.claimed(count)
    with exclusive(stage, model), claimed, noted(stage, settings, model):
        if count > 1:
            ranks.run(count, hosts)
        else:
            work()
