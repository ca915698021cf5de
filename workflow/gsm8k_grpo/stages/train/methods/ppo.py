"""The method `ppo`: a value head, advantages of each token, and the clipped losses of policy and values."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.stages.train.methods.own_loss import OwnLossMethod

if TYPE_CHECKING:
    from gsm8k_grpo.stages.train.grpo.objective import Objective


class PPO(OwnLossMethod):
    name = "ppo"
    columns: ClassVar = {name: name for name in ("value_loss", "explained_variance", "ratio_clipped_share")}

    def objective(self, params: Params) -> Objective:
        from gsm8k_grpo.stages.train.ppo.objective import PPOObjective

        settings, train = params.ppo.model_dump(exclude={"learning_rate"}), params.train
        corrected = train.vllm_importance_sampling_correction
        return PPOObjective(**settings, sampled=train.old_log_probs == "sampled", corrected=corrected)
