"""Training on packed batches: the update computes each prompt once for all its completions, without padding.

The loss is TRL's, on log-probabilities that agree with TRL's to rounding.  TRL shuffles the completions of a generation
over its batches; here the completions of a prompt stay together, so that a batch consists of whole groups.  A group
whose rewards are all equal has no advantage and a gradient of zero, so it needs no forward and no backward pass.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast

import torch
from accelerate.utils import AutocastKwargs
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel
from trl.trainer.utils import split_tensor_dict

from gsm8k_grpo.models import logprobs
from gsm8k_grpo.models.compiling import compile_layers
from gsm8k_grpo.stages.train.grpo import packing
from gsm8k_grpo.stages.train.grpo.graphed import GraphedDecoder
from gsm8k_grpo.stages.train.grpo.trainer import ResumableGRPOTrainer


@dataclass(frozen=True)
class Update:
    """The call comes from the loss.

    Attributes:
        rows: (n,) indices of the rows with a gradient, whole groups; the others need not be computed.
        old: (rows of the batch, completion length) log-probabilities before the update.
        entropies: what the log gets the mean of, of the same shape.
    """

    rows: Tensor
    old: Tensor
    entropies: Tensor


class ZeroGradient(torch.autograd.Function):
    """Returns `values`, and gives `weights`, on which they do not depend, a gradient of zero rather than none.

    An optimizer skips a weight without a gradient, but moves one whose gradient is zero by momentum and weight decay.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, *weights: Tensor) -> Tensor:
        ctx.save_for_backward(*weights)
        return values.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return None, *map(torch.zeros_like, ctx.saved_tensors)


class PackedGRPOTrainer(ResumableGRPOTrainer):
    """GRPOTrainer whose forward passes run on packed batches.

    TRL asks for log-probabilities in `_get_per_token_logps_and_entropies`, with the same arguments whatever it needs
    them for.  Three of its calls need something else here, and `_next_call` says so beforehand; it is the only state
    that is passed around TRL, and one call uses it up:
        "old": the call for the old log-probabilities, whose entropies are kept for the log.
        "unneeded": the same call, where vLLM's log-probabilities are used instead.
        Update: the call within the loss, where groups without advantage are left out.
        None: any other call, which gets all log-probabilities and exact entropies.

    Entropies are exact.  The mean over the groups that an Update computes would not be the mean over all groups, since
    what was sampled decides which are computed; so the log has the entropies of the pass for the old log-probabilities,
    of all groups, from when they were sampled.  Without that pass the log has no entropy but, as `surprisal`, the mean
    of -log p of the sampled tokens under the distribution that they were sampled from.  Where the loss needs entropies,
    all groups are computed, and loss and log have the present ones.

    Args:
        compiled: compile the layers with torch.compile, so that they run as fewer and larger kernels.
        sampled: take the ratio of the loss to the probabilities that vLLM sampled with, rather than to those that the
            trainer computes after the generation.  It then corrects both for the updates since the generation and for
            the difference between vLLM and the trainer, and saves a forward pass.
        graphs: on a GPU, compute the decoder's passes of the update by CUDA graphs, see `graphed`.
    """

    def __init__(self, *args: Any, compiled: bool, sampled: bool, graphs: bool = False, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._loss_needs_entropies = self.top_entropy_quantile < 1 or self._entropy_bonus_enabled
        self.sampled = sampled
        self._next_call: Literal["old", "unneeded"] | Update | None = None
        self._old_entropies: Tensor | None = None
        self.chunk = logprobs.chunk
        if compiled:
            self.chunk = torch.compile(logprobs.chunk, dynamic=True)
            compile_layers(self._without_adapters(self.model))
        self._graphed = self._graphed_decoder() if graphs else None

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:
        if self._step % self.batches_per_generation == 0 or self._buffered_inputs is None:
            generated = self._generate_and_score_completions(generation_batch)
            self._buffered_inputs = split_tensor_dict(generated, self.batches)
        return self._buffered_inputs[self._step % self.batches]

    def generated(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        if not self.objective.needs_logps:
            return super().generated(inputs)
        # TRL computes the old log-probabilities, in its first call after generating, if the update may follow a later
        # step than the generation or corrects for vLLM; the call after that, if any, is for the reference.
        corrected = self.use_vllm and self.vllm_importance_sampling_correction
        if corrected or self.args.gradient_accumulation_steps % self.batches_per_generation != 0:
            self._next_call = "unneeded" if self.sampled else "old"
        generated = super().generated(inputs)
        if self.sampled:
            return generated | {"old_per_token_logps": generated["sampling_per_token_logps"]}
        entropies, self._old_entropies = self._old_entropies, None
        return generated if entropies is None else generated | {"old_entropies": entropies}

    def _get_per_token_logps_and_entropies(
        self,
        model: nn.Module,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        **unused: Any,
    ) -> tuple[Tensor | None, Tensor | None, None]:
        call, self._next_call = self._next_call, None
        if call == "unneeded" or self._leaves_out_logps:
            return None, None, None
        network = self._without_adapters(model)
        if isinstance(call, Update):
            return self._update_logps(network, input_ids, attention_mask, call), call.entropies, None
        rows_at_once = (batch_size or len(input_ids)) // self.group_size * self.group_size
        parts = [
            self._logps_and_entropies(network, ids, mask, logits_to_keep)
            for ids, mask in zip(input_ids.split(rows_at_once), attention_mask.split(rows_at_once), strict=True)
        ]
        logps, entropies = (torch.cat(values) for values in zip(*parts, strict=True))
        if call == "old":
            self._old_entropies = entropies
        return logps, entropies if compute_entropy else None, None

    def _compute_loss(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        old = inputs.get("old_per_token_logps")
        if old is None or self._loss_needs_entropies:
            return super()._compute_loss(model, inputs)
        varied = self.objective.has_gradient(self, inputs).view(-1, self.num_generations).any(1)
        rows = varied.repeat_interleave(self.num_generations).nonzero().squeeze(1)
        entropies = inputs.get("old_entropies")
        self._next_call = Update(rows, old, -old if entropies is None else entropies)
        loss = super()._compute_loss(model, inputs)
        if entropies is None:
            metrics = self._metrics["train"]
            metrics["surprisal"].append(metrics["entropy"].pop())
            if not metrics["entropy"]:
                del metrics["entropy"]
        return loss

    def _update_logps(self, network: PreTrainedModel, ids: Tensor, mask: Tensor, update: Update) -> Tensor:
        """Log-probabilities of a batch, computed for the rows of the update.

        The other rows get the old ones, so that their ratio is 1.
        """
        if len(update.rows) == 0:
            trained = (weight for weight in network.parameters() if weight.requires_grad)
            return ZeroGradient.apply(update.old, *trained)
        length = update.old.shape[1]
        logps, _ = self._logps_and_entropies(network, ids[update.rows], mask[update.rows], length)
        return update.old.index_put((update.rows,), logps)

    @property
    def group_size(self) -> int:
        """Consecutive rows of a batch that have the same prompt."""
        return self.objective.group_size(self)

    def _without_adapters(self, model: nn.Module) -> PreTrainedModel:
        """The model inside the wrapper of peft; its layers hold the adapters."""
        unwrapped = self.accelerator.unwrap_model(model)
        return cast(PreTrainedModel, unwrapped.get_base_model() if isinstance(unwrapped, PeftModel) else unwrapped)

    def _logps_and_entropies(
        self, network: PreTrainedModel, ids: Tensor, mask: Tensor, length: int
    ) -> tuple[Tensor, Tensor]:
        """(rows, length) log-probabilities and entropies of the completions of whole groups."""
        packed = packing.pack(ids, mask, length, self.group_size)
        return self.logps_of_states(network, self.completion_states(network, packed), packed, len(ids), length)

    def completion_states(self, network: PreTrainedModel, packed: packing.Packed) -> Tensor:
        """(N, hidden) states from which the head predicts the tokens of the completions."""
        if self._graphed is not None and torch.is_grad_enabled():
            return self._graphed.states(packed)[packed.sources]
        decoder = network.get_decoder()
        with self.accelerator.autocast():
            return decoder(**packed.inputs(decoder.config)).last_hidden_state[0, packed.sources]

    def _graphed_decoder(self) -> GraphedDecoder:
        decoder = self._without_adapters(self.model).get_decoder()
        autocast = partial(self.accelerator.autocast, AutocastKwargs(cache_enabled=False))
        rows = self.args.per_device_train_batch_size
        return GraphedDecoder(decoder, autocast, rows + rows // self.group_size)

    def logps_of_states(
        self, network: PreTrainedModel, states: Tensor, packed: packing.Packed, rows: int, length: int
    ) -> tuple[Tensor, Tensor]:
        """(rows, length) log-probabilities and entropies of the completions, from `completion_states`."""
        with self.accelerator.autocast():
            logps, entropies = logprobs.logps_and_entropies(
                states,
                network.get_output_embeddings(),
                packed.targets,
                self.temperature,
                self.chunk,
                logprobs.Logits.of(network.get_decoder().config),
                entropy_gradient=self._entropy_bonus_enabled,
            )
        return packing.unpack(logps, packed, rows, length), packing.unpack(entropies, packed, rows, length)
