"""The objective of PPO on the completions that the trainer samples.

TRL's PPOTrainer takes reward models instead of functions, keeps a second model for the values, can't use vLLM, and is
no longer in TRL's stable part.  Here the values come from a head on the policy's own hidden states.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from gsm8k_grpo.runtime import ranks
from gsm8k_grpo.stages.train import parallel
from gsm8k_grpo.stages.train.grpo.objective import COMPLETION, Objective, masked_mean, share_of_step
from gsm8k_grpo.stages.train.grpo.references import reference_logps, without_gradients
from gsm8k_grpo.stages.train.grpo.trainer import ResumableGRPOTrainer
from gsm8k_grpo.stages.train.ppo import value_head
from gsm8k_grpo.stages.train.ppo.advantages import (
    generalised_advantages,
    mean_and_deviation,
    token_rewards,
    whitened,
)
from gsm8k_grpo.stages.train.ppo.loss import policy_losses, value_losses
from gsm8k_grpo.stages.train.ppo.values import logps_entropies_values


@dataclass(frozen=True)
class PPOObjective(Objective):
    """Advantages from a value head, and the clipped losses of policy and values.

    Attributes:
        gamma: discount of a reward that comes one token later.
        lam: how far an advantage looks ahead before it relies on the value head: 0 for one token, 1 for all tokens.
        kl_coef: weight of the KL term in the rewards of the tokens.
        cliprange: how far the ratio of the probabilities may move away from 1 and still have a gradient.
        cliprange_value: how far a value may move away from the one before the update and still have a gradient.
        vf_coef: weight of the values' loss.
        sampled: the ratio is to the probabilities that vLLM sampled with, rather than to those of the trainer.
        corrected: the policy's loss has TRL's factor for the difference between vLLM and trainer, clipped per token.
    """

    gamma: float
    lam: float
    kl_coef: float
    cliprange: float
    cliprange_value: float
    vf_coef: float
    sampled: bool = False
    corrected: bool = True

    corrects_for_vllm: ClassVar[bool] = False  # TRL does not; `scored` does, if `corrected`
    needs_logps: ClassVar[bool] = False

    def prepare(self, trainer: ResumableGRPOTrainer) -> None:
        value_head.attach(trainer)

    def scored(self, trainer: ResumableGRPOTrainer, generated: dict[str, Tensor]) -> dict[str, Tensor]:
        """The completions, and for each token: old log-probability, old value, return and whitened advantage."""
        rows = {name: generated[name] for name in (*COMPLETION, "num_items_in_batch")}
        mask, totals, head = rows["completion_mask"], trainer.weighted_rewards(), value_head.of(trainer)
        if trainer._step == 0:
            # The head begins with the mean total reward as the value of every token, near the first returns.
            head.linear.bias.data.fill_(parallel.mean(totals.mean().item()))
        with without_gradients(trainer):
            old, _, values, _ = logps_entropies_values(trainer, trainer.model, rows, head)
        sampling = generated.get("sampling_per_token_logps")
        if sampling is not None and self.sampled:
            old = sampling
        elif sampling is not None and self.corrected:
            rows["importance"] = _importance(trainer, old, sampling)
        reference = None
        if self.kl_coef:
            reference = rows["ref_per_token_logps"] = reference_logps(trainer, rows)
        rewards = token_rewards(totals, old, reference, mask, self.kl_coef)
        advantages = generalised_advantages(rewards, values, mask, self.gamma, self.lam)
        rows |= {"old_logps": old, "old_values": values, "returns": advantages + values}
        return rows | {"token_advantages": whitened(advantages, mask)}

    def loss(self, trainer: ResumableGRPOTrainer, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        """The sum of both losses, the values' weighted by `vf_coef`, as the mean over the tokens of the step."""
        mask, old, returns = inputs["completion_mask"], inputs["old_logps"], inputs["returns"]
        logps, entropies, values, balance = logps_entropies_values(trainer, model, inputs, value_head.of(trainer))
        of_policy = policy_losses(logps, old, inputs["token_advantages"], self.cliprange)
        of_policy = of_policy * inputs.get("importance", 1.0)
        of_values = value_losses(values, inputs["old_values"], returns, self.cliprange_value)
        figures = {
            "entropy": entropies,
            "value_loss": of_values,
            "ratio_clipped_share": ((logps - old).exp() - 1).abs() > self.cliprange,
        }
        if "ref_per_token_logps" in inputs:
            ratios = logps - inputs["ref_per_token_logps"]
            figures["kl"] = (-ratios).exp() + ratios - 1
        logged = trainer._metrics["train"]
        for name, figure in figures.items():
            logged[name].append(masked_mean(figure.detach().float(), mask))
        logged["explained_variance"].append(_explained_variance(values.detach(), returns, mask))
        tokens_per_batch = inputs["num_items_in_batch"].clamp(min=1) / ranks.count() / trainer.batches
        loss = ((of_policy + self.vf_coef * of_values) * mask).sum() / tokens_per_batch
        return share_of_step(trainer, loss, balance)


def _importance(trainer: ResumableGRPOTrainer, old: Tensor, sampling: Tensor) -> Tensor:
    """(rows, length) TRL's correction for the difference between trainer and vLLM: the ratio of their probabilities for
    each token, clipped from above.
    """
    return (old - sampling).nan_to_num(nan=0.0).exp().clamp(max=trainer.vllm_importance_sampling_clip_max)


def _explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> float:
    """The share of the returns' variance that the values explain: 1 for equal values, 0 for constant ones."""
    _, of_errors = mean_and_deviation((returns - values)[mask.bool()])
    _, of_returns = mean_and_deviation(returns[mask.bool()])
    return 1 - of_errors**2 / max(of_returns**2, 1e-8)
