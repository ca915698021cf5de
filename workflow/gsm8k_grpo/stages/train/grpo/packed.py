"""GRPO on packed batches: the update computes each prompt once for all its completions, without padding.

The loss is TRL's, on log-probabilities that agree with TRL's to rounding.  TRL shuffles the completions of a
generation over its batches; here those of a prompt stay together, so that a batch is of whole groups.  A group whose
rewards are all equal has no advantage and a gradient of zero, which needs no forward and no backward pass.
"""

from typing import Any

import torch
from accelerate.utils import is_peft_model
from torch import Tensor, nn
from transformers import PreTrainedModel
from trl.trainer.utils import split_tensor_dict

from gsm8k_grpo.models import logprobs
from gsm8k_grpo.stages.train.grpo import packing
from gsm8k_grpo.stages.train.grpo.trainer import ResumableGRPOTrainer


class Unmoved(torch.autograd.Function):
    """`values` as they are, and for `weights`, on which they do not depend, a gradient of zero rather than none: an
    optimizer passes over a weight without a gradient, but moves one of gradient zero by its momentum and its decay.
    """

    @staticmethod
    def forward(ctx, values: Tensor, *weights: Tensor) -> Tensor:
        ctx.save_for_backward(*weights)
        return values.clone()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return None, *map(torch.zeros_like, ctx.saved_tensors)


class PackedGRPOTrainer(ResumableGRPOTrainer):
    """`compiled` layers run as fewer and larger kernels on a card.

    With `old_log_probs: sampled` the ratio is taken to the probabilities that vLLM sampled with: it corrects at once
    for the updates since then and for what vLLM computes differently, and needs no forward pass of its own.
    """

    def __init__(self, *args, compiled: bool, sampled: bool, **kwargs):
        super().__init__(*args, **kwargs)
        self.sampled = sampled
        self._without_old = False
        self._known: tuple[Tensor, Tensor] | None = None  # in the loss: rows to compute, old log-probabilities
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
        if self._known is not None:
            rows, old = self._known
            # The mean over sampled tokens of what their probabilities say is the entropy, of all rows alike: exact
            # values of some rows beside it would not do, for which rows are computed depends on what was sampled.
            return self._of_rows(network, input_ids, attention_mask, rows, old), -old, None
        groups = (batch_size or len(input_ids)) // self.num_generations * self.num_generations
        parts = [
            self._of_groups(network, ids, mask, logits_to_keep)
            for ids, mask in zip(input_ids.split(groups), attention_mask.split(groups), strict=True)
        ]
        logps, entropies = (torch.cat(values) for values in zip(*parts, strict=True))
        return logps, entropies if compute_entropy else None, None

    def _compute_loss(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        old = inputs.get("old_per_token_logps")
        if old is not None:
            # A KL term has a gradient whatever the rewards are.
            varied = inputs["advantages"].view(-1, self.num_generations).any(1) | (self.beta != 0)
            self._known = varied.repeat_interleave(self.num_generations).nonzero().squeeze(1), old
        loss = super()._compute_loss(model, inputs)
        self._known = None
        return loss

    def _of_rows(self, network: PreTrainedModel, ids: Tensor, mask: Tensor, rows: Tensor, old: Tensor) -> Tensor:
        """Log-probabilities of a batch, computed of some `rows`, whole groups; of the others stand the `old` ones, so
        that the ratio is 1."""
        if len(rows) == 0:
            return Unmoved.apply(old, *(weight for weight in network.parameters() if weight.requires_grad))
        logps, _ = self._of_groups(network, ids[rows], mask[rows], old.shape[1])
        return old.index_put((rows,), logps)

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
