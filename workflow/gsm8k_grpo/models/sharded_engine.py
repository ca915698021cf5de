"""One model on several GPUs: each rank has an engine of its own, and completes its share of the prompts."""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import gather_object

from gsm8k_grpo.models.engine import Completion, Engine, Prompt, Sampling
from gsm8k_grpo.models.loading import Source
from gsm8k_grpo.runtime import ranks

Result = TypeVar("Result")


class ShardedEngine:
    """An engine whose prompts are divided among the ranks; each rank gets the completions of all, in their order.

    Greedy completions are those of a single engine up to rounding, since the batches are composed of other prompts.
    Sampled ones are drawn with another seed in each rank, so they depend on the number of ranks.

    Args:
        start: a function that starts the engine of this rank.
    """

    def __init__(self, start: Callable[[], Engine]):
        PartialState(cpu=not torch.cuda.is_available())  # connects the ranks, before vLLM looks for them
        self.engine = start()
        self.tokenizer, self.context = self.engine.tokenizer, self.engine.context

    def use(self, source: Source) -> None:
        self.engine.use(source)

    def complete(
        self, prompts: list[Prompt], max_completion_length: int, progress: str, stop: str | None = None
    ) -> list[Completion]:
        return self._shared(prompts, lambda own: self.engine.complete(own, max_completion_length, progress, stop))

    def sample(
        self, prompts: list[Prompt], max_completion_length: int, progress: str, sampling: Sampling
    ) -> list[list[Completion]]:
        sampling = replace(sampling, seed=sampling.seed + ranks.rank())
        return self._shared(prompts, lambda own: self.engine.sample(own, max_completion_length, progress, sampling))

    def _shared(self, prompts: list[Prompt], of_rank: Callable[[list[Prompt]], list[Result]]) -> list[Result]:
        """Of N ranks, rank r takes prompts r, r + N, r + 2 N and so on, since neighbours often have similar lengths."""
        own = prompts[ranks.rank() :: ranks.count()]
        shares: list[list[Result]] = gather_object([of_rank(own) if own else []])
        return [shares[index % ranks.count()][index // ranks.count()] for index in range(len(prompts))]
