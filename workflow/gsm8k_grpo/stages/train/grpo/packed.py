"""Training on packed batches: the update computes each prompt once for all its completions, without padding.

The loss is TRL's, on log-probabilities that agree with TRL's up to rounding.  TRL shuffles the completions of a
generation over its batches; here the completions of a prompt stay together, so that a batch consists of whole groups.
"""

from functools import partial
from typing import Any, cast

import torch
from accelerate.utils import AutocastKwargs
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel
from trl.trainer.utils import split_tensor_dict

from gsm8k_grpo.models import logprobs
from gsm8k_grpo.models.compiling import compile_layers
from gsm8k_grpo.stages.train import sharding
from gsm8k_grpo.stages.train.grpo import packing
from gsm8k_grpo.stages.train.grpo.balancing import balanced
from gsm8k_grpo.stages.train.grpo.cuda_graphs.graphed import GraphedDecoder
from gsm8k_grpo.stages.train.grpo.selective import SelectiveGRPOTrainer


class PackedGRPOTrainer(SelectiveGRPOTrainer):
    """GRPOTrainer whose forward passes run on packed batches.

    Args:
        compiled: compile the layers with torch.compile, so that they run as fewer and larger kernels.
        graphs: on a GPU, compute the decoder's passes of the update by CUDA graphs, see `graphed`.
    """

    def __init__(self, *args: Any, compiled: bool, graphs: bool = False, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.chunk = logprobs.chunk
        if compiled:
            self.chunk = torch.compile(logprobs.chunk, dynamic=True)
            compile_layers(self._without_adapters(self.model))
        self._graphed = self._graphed_decoder() if graphs else None

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:
        if self._step % self.batches_per_generation == 0 or self._buffered_inputs is None:
            generated = self._generate_and_score_completions(generation_batch)
            prompts = self.batches * self.args.per_device_train_batch_size // self.num_generations
            shared = balanced(generated, self._are_computed(generated), self.batches, prompts)
            self._buffered_inputs = split_tensor_dict(shared, self.batches)
        return self._buffered_inputs[self._step % self.batches]

    def logps_and_entropies(
        self, model: nn.Module, ids: Tensor, mask: Tensor, length: int, rows_at_once: int | None, **options: Any
    ) -> tuple[Tensor, Tensor | None, None]:
        network = self._without_adapters(model)
        rows_at_once = (rows_at_once or len(ids)) // self.group_size * self.group_size
        parts = zip(ids.split(rows_at_once), mask.split(rows_at_once), strict=True)
        computed = [self._of_groups(network, ids, mask, length) for ids, mask in parts]
        logps, entropies = (torch.cat(values) for values in zip(*computed, strict=True))
        return logps, entropies, None

    def rows_with_gradient(self, inputs: dict[str, Tensor]) -> Tensor:
        return self._in_groups_with_gradient(inputs).nonzero().squeeze(1)

    def _in_groups_with_gradient(self, inputs: dict[str, Tensor]) -> Tensor:
        varied = self.objective.has_gradient(self, inputs).view(-1, self.num_generations).any(1)
        return varied.repeat_interleave(self.num_generations)

    def _are_computed(self, generated: dict[str, Any]) -> Tensor:
        """(rows,) whether the update computes each row of a generation."""
        if self.leaves_out_rows(generated):
            return self._in_groups_with_gradient(generated)
        return torch.ones(len(generated["completion_ids"]), dtype=torch.bool, device=self.accelerator.device)

    @property
    def group_size(self) -> int:
        """Consecutive rows of a batch that have the same prompt."""
        return self.objective.group_size(self)

    def _without_adapters(self, model: nn.Module) -> PreTrainedModel:
        """The model inside peft's wrapper; its layers still hold the adapters."""
        unwrapped = self.accelerator.unwrap_model(model)
        return cast(PreTrainedModel, unwrapped.get_base_model() if isinstance(unwrapped, PeftModel) else unwrapped)

    def _of_groups(self, network: PreTrainedModel, ids: Tensor, mask: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """(rows, length) log-probabilities and entropies of the completions of whole groups."""
        packed = packing.pack(ids, mask, length, self.group_size)
        return self.logps_of_states(network, self.completion_states(network, packed), packed, len(ids), length)

    def completion_states(self, network: PreTrainedModel, packed: packing.Packed) -> Tensor:
        """(N, hidden) states from which the head predicts the N tokens of the completions."""
        if self._graphed is not None and torch.is_grad_enabled():
            return self._graphed.states(packed)[packed.sources]
        decoder = network.get_decoder()

        def states() -> Tensor:
            return decoder(**packed.inputs(decoder.config)).last_hidden_state[0, packed.sources]

        with self.accelerator.autocast():
            return sharding.forward(network, states)

    def _graphed_decoder(self) -> GraphedDecoder:
        decoder = self._without_adapters(self.model).get_decoder()
        autocast = partial(self.accelerator.autocast, AutocastKwargs(cache_enabled=False))
        rows = self.args.per_device_train_batch_size
        return GraphedDecoder(decoder, autocast, rows + rows // self.group_size)

    def logps_of_states(
        self, network: PreTrainedModel, states: Tensor, packed: packing.Packed, rows: int, length: int
    ) -> tuple[Tensor, Tensor]:
        """(rows, length) log-probabilities and entropies of the completions, from `completion_states`."""
        compute = partial(
            logprobs.logps_and_entropies,
            states,
            network.get_output_embeddings(),
            packed.targets,
            self.temperature,
            self.chunk,
            logprobs.Logits.of(network.get_decoder().config),
            entropy_gradient=self._entropy_bonus_enabled,
        )
        with self.accelerator.autocast():
            logps, entropies = sharding.forward(network, compute)
        return packing.unpack(logps, packed, rows, length), packing.unpack(entropies, packed, rows, length)
