"""GRPO on packed batches: the update computes each prompt once for all its completions, without padding.

The loss is TRL's, on log-probabilities that agree with TRL's to rounding.  TRL shuffles the completions of a
generation over its batches; here those of a prompt stay together, so that a batch is of whole groups.
"""

from typing import Any

import torch
from accelerate.utils import is_peft_model
from torch import Tensor, nn
from transformers import PreTrainedModel
from trl.trainer.utils import split_tensor_dict

from gsm8k_grpo import logprobs, packing
from gsm8k_grpo.grpo import Trainer


class PackedTrainer(Trainer):
    """`compiled` layers run as fewer and larger kernels on a card.

    With `old_log_probs: sampled` the ratio is taken to the probabilities that vLLM sampled with: it corrects at once
    for the updates since then and for what vLLM computes differently, and needs no forward pass of its own.
    """

    def __init__(self, *args, compiled: bool, sampled: bool, **kwargs):
        super().__init__(*args, **kwargs)
        self.sampled = sampled
        self._without_old = False
        self.chunk = logprobs.chunk
        if compiled:
            self.chunk = torch.compile(logprobs.chunk, dynamic=True)
            for layer in self._without_adapters(self.model).get_decoder().layers:
                layer.compile(dynamic=True)

    def _prepare_inputs(self, generation_batch: list[dict[str, Any]]) -> dict[str, Tensor]:
        if self._step % self.steps_served == 0 or self._buffered_inputs is None:
            generated = self._generate_and_score_completions(generation_batch)
            if self.sampled:
                generated["old_per_token_logps"] = generated["sampling_per_token_logps"]
            self._buffered_inputs = split_tensor_dict(generated, self.args.steps_per_generation)
        return self._buffered_inputs[self._step % self.args.steps_per_generation]

    def _generate(self, prompts):
        self._without_old = self.sampled and self.args.gradient_accumulation_steps % self.steps_served != 0
        return super()._generate(prompts)

    def _get_per_token_logps_and_entropies(
        self, model, input_ids, attention_mask, logits_to_keep, batch_size=None, compute_entropy=False, **unused
    ) -> tuple[Tensor | None, Tensor | None, None]:
        if self._without_old:  # TRL's first call after a generation is for the old ones
            self._without_old = False
            return None, None, None
        network = self._without_adapters(model)
        groups = (batch_size or len(input_ids)) // self.num_generations * self.num_generations
        parts = [
            self._of_groups(network, ids, mask, logits_to_keep)
            for ids, mask in zip(input_ids.split(groups), attention_mask.split(groups), strict=True)
        ]
        logps, entropies = (torch.cat(values) for values in zip(*parts, strict=True))
        return logps, entropies if compute_entropy else None, None

    def _without_adapters(self, model: nn.Module) -> PreTrainedModel:
        """The model itself, which holds its adapters in its layers; the policy's or the reference's."""
        model = self.accelerator.unwrap_model(model)
        return model.get_base_model() if is_peft_model(model) else model

    def _of_groups(self, network: PreTrainedModel, ids: Tensor, mask: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """(rows, length) log-probabilities and entropies of the completions of whole groups."""
        packed = packing.pack(ids, mask, length, self.num_generations)
        decoder, head = network.get_decoder(), network.get_output_embeddings()
        with self.accelerator.autocast():
            states = decoder(**packed.inputs(network.config._attn_implementation)).last_hidden_state
            found = logprobs.logps_and_entropies(
                states[0, packed.sources], head, packed.targets, self.temperature, self.chunk
            )
        return tuple(packing.unpack(values, packed, len(ids), length) for values in found)
