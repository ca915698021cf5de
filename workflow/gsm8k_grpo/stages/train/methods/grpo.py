"""The method `grpo`: TRL's GRPOTrainer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.stages.train.methods.sampling import SamplingMethod

if TYPE_CHECKING:
    from gsm8k_grpo.stages.train.grpo.objective import Objective


class GRPO(SamplingMethod):
    name = "grpo"

    def objective(self, params: Params) -> Objective:
        from gsm8k_grpo.stages.train.grpo.objective import GRPO as OBJECTIVE

        return OBJECTIVE
