"""Completions for training by the engine `graphs`, instead of TRL's VLLMGeneration.

The decoder has its own copy of the weights, in the type that it computes in and with the adapters added.  Before the
first generation after an update, the trainer's weights replace this copy.
"""

from contextlib import AbstractContextManager
from typing import Any

import torch

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.models import loading
from gsm8k_grpo.models.decoding import check
from gsm8k_grpo.models.decoding.decoder import Decoder
from gsm8k_grpo.models.decoding.sampling import Sampler
from gsm8k_grpo.models.graph_engine import load_network, settings_of
from gsm8k_grpo.stages.train.grpo.rollouts import merged_weights
from gsm8k_grpo.stages.train.grpo.trainer import ResumableGRPOTrainer


class GraphRollouts:
    """Generates for a trainer, see `ResumableGRPOTrainer.generate_with`.

    Args:
        trainer: the trainer.
        base: the base model, which has the shape of the trained one.
        params: the configuration.

    Raises:
        PipelineError: by `sync_weights`, if the trainer has no value for a weight of the decoder; by `generate`, if
            decoding is not right for the model.
    """

    def __init__(self, trainer: ResumableGRPOTrainer, base: str, params: Params):
        self.trainer = trainer
        network, tokenizer = load_network(loading.Source(base), params)
        self.decoder = Decoder(network, tokenizer, settings_of(params))
        self.sampler = Sampler(trainer.temperature, trainer.top_k or 0, trainer.top_p, trainer.min_p or 0.0)

    @torch.no_grad()
    def sync_weights(self) -> None:
        own = dict(self.decoder.network.named_parameters())
        for name, weight in merged_weights(self.trainer.model):
            own.pop(name).copy_(weight)
        if own:
            raise PipelineError(f"engine = graphs: no weights arrive for {len(own)} tensors, such as {next(iter(own))}")

    def generate(
        self, prompts: list[list[int]], images: None, num_generations: int, profiler: AbstractContextManager[Any]
    ) -> tuple[list[list[int]], list[list[int]], list[list[list[float]]], None]:
        """What TRL's method returns: prompts, completions, a list with the log-probability for each token, and None.

        Args:
            prompts: token ids, each prompt as many times in a row as it has completions.
            images: always None.
            num_generations: the number of completions of each prompt.
            profiler: TRL's context, which measures the time that this takes.
        """
        with self.trainer.stopping_generation(), profiler:
            distinct = prompts[::num_generations]
            check.require_once(self.decoder, distinct)
            limit = self.trainer.max_completion_length
            ended = list(self.decoder.generate(distinct, num_generations, limit, self.sampler))
        completions = [generated for _, _, generated in sorted(ended, key=lambda one: one[:2])]
        logps = [[[logp] for logp in generated.logps] for generated in completions]
        return prompts, [generated.ids for generated in completions], logps, None
