"""Training that leaves out completions without a gradient: in a group whose rewards are all equal, no completion has an
advantage, so the update needs no forward and no backward pass for them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gsm8k_grpo.stages.train import parallel, sharding
from gsm8k_grpo.stages.train.grpo.trainer import ResumableGRPOTrainer


@dataclass(frozen=True)
class Update:
    """What a call for log-probabilities within the loss needs.

    Attributes:
        rows: (n,) indices of the rows with a gradient; the others need not be computed.
        old: (rows of the batch, completion length) log-probabilities before the update.
        entropies: a tensor of the same shape, whose mean is logged as the entropy.
    """

    rows: Tensor
    old: Tensor
    entropies: Tensor

    def logps(self, model: nn.Module, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """Log-probabilities of a batch, by `compute` for `rows`; others get the old ones, so their ratio is 1."""
        if len(self.rows) == 0:
            trained = (weight for weight in model.parameters() if weight.requires_grad)
            return ZeroGradient.apply(self.old, *trained)
        return self.old.index_put((self.rows,), compute(self.rows))


class ZeroGradient(torch.autograd.Function):
    """Returns `values`, and gives `weights`, on which the values do not depend, a gradient of zero rather than none.

    An optimizer skips a weight without a gradient, but moves one whose gradient is zero by momentum and weight decay.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, *weights: Tensor) -> Tensor:
        ctx.save_for_backward(*weights)
        return values.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return None, *map(torch.zeros_like, ctx.saved_tensors)


class SelectiveGRPOTrainer(ResumableGRPOTrainer):
    """GRPOTrainer whose loss computes only the rows with a gradient, if it has old log-probabilities for the others.

    TRL asks for log-probabilities in `_get_per_token_logps_and_entropies`, with the same arguments whatever it needs
    them for.  Two of its calls are treated differently here.  `_next_call` announces them, and the call resets it:
        "old": the call for the old log-probabilities, whose entropies are kept for the log.
        Update: the call within the loss, where rows without a gradient are left out.
        None: any other call, which gets all log-probabilities and exact entropies.

    Logged entropies are exact.  What was sampled decides which rows an Update computes, so their mean would differ from
    the mean over all rows.  The log therefore has the entropies that the pass for the old log-probabilities computes
    for all rows, under the weights that sampled them.  Without that pass the log has no entropy.  It then has
    `surprisal`, the mean of -log p of the sampled tokens under the distribution that they were sampled from.  Where the
    loss needs entropies, all rows are computed, and the loss and the log use the entropies of the update.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._next_call: Literal["old"] | Update | None = None
        self._old_entropies: Tensor | None = None

    def logps_and_entropies(
        self, model: nn.Module, ids: Tensor, mask: Tensor, length: int, rows_at_once: int | None, **options: Any
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """What TRL's `_get_per_token_logps_and_entropies` returns; this method calls it, and subclasses are faster.

        Args:
            ids, mask: (rows, prompt + completion) tokens, and 1 for those that are not padding.
            length: number of columns of the completions.
            rows_at_once: rows in a forward pass; None for all.
            options: TRL's `compute_entropy`, `compute_aux_loss` and those for images.

        Returns:
            The (rows, length) log-probabilities, the (rows, length) entropies if `compute_entropy`, and the loss that
            balances experts, if any.
        """
        computed: Any = super()._get_per_token_logps_and_entropies(model, ids, mask, length, rows_at_once, **options)
        return computed

    def needs_all_rows(self) -> bool:
        """Whether the loss is a function of all rows."""
        return self.top_entropy_quantile < 1 or self._entropy_bonus_enabled

    def leaves_out_rows(self, inputs: dict[str, Any]) -> bool:
        """Whether the loss computes only `rows_with_gradient`."""
        return inputs.get("old_per_token_logps") is not None and not self.needs_all_rows()

    def rows_with_gradient(self, inputs: dict[str, Tensor]) -> Tensor:
        """(n,) indices of the rows of a batch that must be computed."""
        return self.objective.has_gradient(self, inputs).nonzero().squeeze(1)

    def _rows_to_compute(self, inputs: dict[str, Tensor]) -> Tensor:
        """(n,) indices of the rows with a gradient.

        Where weights are divided, every rank must run the passes of the others, which gather weights from it.  So if
        only other ranks have such rows, this one computes the rows of the first prompt, with a gradient of zero.
        """
        rows = self.rows_with_gradient(inputs)
        if sharding.is_sharded(self.model) and parallel.anywhere(len(rows) > 0) and not len(rows):
            return torch.arange(self.num_generations, device=rows.device)
        return rows

    def generated(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        if self.computes_old_logps and self.objective.needs_logps and not self.sampled:
            self._next_call = "old"
        generated = super().generated(inputs)
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
        **options: Any,
    ) -> tuple[Tensor | None, ...]:
        if self._is_left_out():
            return None, None, None
        call, self._next_call = self._next_call, None
        if isinstance(call, Update):

            def compute(rows: Tensor) -> Tensor:
                return self.logps_and_entropies(model, input_ids[rows], attention_mask[rows], logits_to_keep, None)[0]

            return call.logps(model, compute), call.entropies, None
        wanted = compute_entropy or call == "old"
        logps, entropies, balance = self.logps_and_entropies(
            model, input_ids, attention_mask, logits_to_keep, batch_size, compute_entropy=wanted, **options
        )
        if call == "old":
            self._old_entropies = entropies
        return logps, entropies if compute_entropy else None, balance

    def _compute_loss(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        if not self.leaves_out_rows(inputs):
            return super()._compute_loss(model, inputs)
        old, entropies = inputs["old_per_token_logps"], inputs.get("old_entropies")
        self._next_call = Update(self._rows_to_compute(inputs), old, -old if entropies is None else entropies)
        loss = super()._compute_loss(model, inputs)
        if entropies is None:
            metrics = self._metrics["train"]
            metrics["surprisal"].append(metrics["entropy"].pop())
            if not metrics["entropy"]:
                del metrics["entropy"]
        return loss
