"""What a method that samples completions does with them: from rewards to a loss.

Everything else is the same for these methods and belongs to the trainer: prompts, generation, rewards, packed batches,
checkpoints and the log.  A method is a subclass of `Objective` in a module of its own, and `ResumableGRPOTrainer` or
one of its subclasses gets an instance of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from gsm8k_grpo.stages.train import parallel

if TYPE_CHECKING:
    from gsm8k_grpo.stages.train.grpo.trainer import ResumableGRPOTrainer

COMPLETION = ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask")
"""The tensors of a generation that hold prompts and completions."""


class Objective:
    """The objective of GRPO: advantages and loss are those of TRL's GRPOTrainer.

    An objective has no state, so that a checkpoint need not hold any: what `scored` adds to a generation is saved and
    restored with it.

    Attributes:
        corrects_for_vllm: whether the loss has TRL's factor for the difference between vLLM's probabilities and the
            trainer's, if the configuration asks for it.
        needs_logps: whether TRL, after each generation, computes the log-probabilities that its own loss needs.
    """

    corrects_for_vllm: ClassVar[bool] = True
    needs_logps: ClassVar[bool] = True

    def prepare(self, trainer: ResumableGRPOTrainer) -> None:
        """Give a new trainer what the method trains besides the policy, such as a value head; nothing, by default."""

    def group_size(self, trainer: ResumableGRPOTrainer) -> int:
        """The number of consecutive rows with the same prompt, in packed batches, which keep prompts together."""
        return trainer.num_generations

    def scored(self, trainer: ResumableGRPOTrainer, generated: dict[str, Tensor]) -> dict[str, Tensor]:
        """The tensors that `loss` needs of a generation.

        Args:
            generated: TRL's tensors, with one row per completion and the completions of a prompt in consecutive rows:
                `prompt_ids`, `prompt_mask`, `completion_ids`, `completion_mask`, `advantages`, and, where they were
                computed, `old_per_token_logps`, `ref_per_token_logps` and `sampling_per_token_logps`.  The pass that
                computes `old_per_token_logps` also gives `old_entropies`, for the log.  The rewards are in
                `trainer.latest`, their weighted sums in `trainer.weighted_rewards()`.
        """
        return generated

    def has_gradient(self, trainer: ResumableGRPOTrainer, inputs: dict[str, Tensor]) -> Tensor:
        """(rows,) whether each completion of a batch has a gradient; those without one are not computed."""
        # A KL term has a gradient whatever the rewards are.
        return (inputs["advantages"] != 0) | (trainer.beta != 0)

    def loss(self, trainer: ResumableGRPOTrainer, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        """The loss of a batch, divided by the number of batches in the step; also logs the method's figures."""
        return trainer.grpo_loss(model, inputs)


GRPO = Objective()


def completion_logps(
    trainer: ResumableGRPOTrainer, model: nn.Module, inputs: dict[str, Tensor], rows_at_once: int | None = None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Log-probabilities and entropies of completions, padded or packed, and the loss that balances experts, if any.

    Args:
        inputs: a batch, or a generation of which `rows_at_once` are computed at a time.

    Returns:
        Two (rows, completion length) tensors, and a scalar or None.
    """
    ids, mask = joined(inputs)
    computed: Any = trainer._get_per_token_logps_and_entropies(
        model,
        ids,
        mask,
        inputs["completion_ids"].shape[1],
        batch_size=rows_at_once,
        compute_entropy=True,
        compute_aux_loss=trainer.aux_loss_enabled,
    )
    return computed


def share_of_step(trainer: ResumableGRPOTrainer, loss: Tensor, balance: Tensor | None) -> Tensor:
    """What a batch adds to the loss of the optimizer step: its loss, with the one that balances experts, divided by the
    number of batches in the step.
    """
    if balance is not None:
        loss = loss + trainer.router_aux_loss_coef * balance
    return loss / trainer.current_gradient_accumulation_steps


def joined(inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """(rows, prompt + completion length) tokens and mask of a batch."""
    ids, mask = (torch.cat([inputs[f"prompt_{kind}"], inputs[f"completion_{kind}"]], 1) for kind in ("ids", "mask"))
    return ids, mask


def masked_mean(values: Tensor, mask: Tensor) -> float:
    """The mean over the completion tokens of all ranks' current batches, for the log."""
    tokens = parallel.total(mask.sum().item())
    return parallel.total((values * mask).sum().item()) / max(tokens, 1)
