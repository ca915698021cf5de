"""RLOO: REINFORCE with the mean reward of a prompt's other completions as the baseline (Ahmadian et al. 2024,
arXiv:2402.14740).

Completion i of a prompt with G completions has the advantage

    A_i = R_i - mean of R_j over j != i        R_i = reward_i - beta * sum over tokens of (log pi_old - log pi_ref)

and the loss is the mean over completions of -min(w_i * A_i, clip(w_i, 1 - epsilon, 1 + epsilon_high) * A_i), where w_i
is the ratio of the probabilities of the whole completion: the product of its tokens' ratios, not their mean as in GSPO.
Where the ratio is 1, its gradient is REINFORCE's.  TRL's RLOOTrainer computes the same; a test compares the two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from gsm8k_grpo.stages.train import parallel
from gsm8k_grpo.stages.train.grpo.objective import Objective, completion_logps, masked_mean, share_of_step

if TYPE_CHECKING:
    from gsm8k_grpo.stages.train.grpo.trainer import ResumableGRPOTrainer


class RLOOObjective(Objective):
    """The advantages and the loss of RLOO."""

    corrects_for_vllm: ClassVar[bool] = False  # TRL's RLOOTrainer does not correct either

    def scored(self, trainer: ResumableGRPOTrainer, generated: dict[str, Tensor]) -> dict[str, Tensor]:
        rewards = trainer.weighted_rewards()
        if trainer.beta:
            if "old_per_token_logps" not in generated:
                with torch.no_grad():
                    old, entropies, _ = completion_logps(
                        trainer, trainer.model, generated, trainer.args.per_device_train_batch_size
                    )
                generated = generated | {"old_per_token_logps": old, "old_entropies": entropies}
            log_ratio = generated["old_per_token_logps"] - generated["ref_per_token_logps"]
            rewards = rewards - trainer.beta * (log_ratio * generated["completion_mask"]).sum(1)
        return generated | {"advantages": leave_one_out(rewards, trainer.num_generations)}

    def has_gradient(self, trainer: ResumableGRPOTrainer, inputs: dict[str, Tensor]) -> Tensor:
        return inputs["advantages"] != 0  # advantages include the KL term

    def loss(self, trainer: ResumableGRPOTrainer, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        logps, entropies, balance = completion_logps(trainer, model, inputs)
        mask, advantages = inputs["completion_mask"], inputs["advantages"]
        old = inputs.get("old_per_token_logps")
        old = logps.detach() if old is None else old
        ratio = ((logps - old) * mask).sum(1).exp()
        lowest, highest = 1 - trainer.epsilon_low, 1 + trainer.epsilon_high
        clipped = ratio.clamp(lowest, highest)
        loss = -torch.min(ratio * advantages, clipped * advantages).mean()

        metrics = trainer._metrics["train"]
        outside = ((ratio < lowest) & (advantages < 0)) | ((ratio > highest) & (advantages > 0))
        metrics["clip_ratio/region_mean"].append(parallel.mean(outside.float().mean().item()))
        metrics["entropy"].append(masked_mean(entropies, mask))
        if trainer.beta:
            metrics["kl"].append(masked_mean(old - inputs["ref_per_token_logps"], mask))
        return share_of_step(trainer, loss, balance)


def leave_one_out(rewards: Tensor, group_size: int) -> Tensor:
    """(rows,) how much each reward exceeds the mean of the others in its group of consecutive rows."""
    groups = rewards.view(-1, group_size)
    # Computed from differences, so that equal rewards have advantages of exactly 0 and need no forward pass.
    differences = groups - groups[:, :1]
    others = (differences.sum(1, keepdim=True) - differences) / (group_size - 1)
    return (differences - others).flatten()
