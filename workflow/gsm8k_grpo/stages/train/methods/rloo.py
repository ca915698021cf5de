"""The method `rloo`: TRL's RLOOTrainer, computed on the trainer of GRPO."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.stages.train.methods.sampling import SamplingMethod

if TYPE_CHECKING:
    from gsm8k_grpo.stages.train.grpo.objective import Objective


class RLOO(SamplingMethod):
    name = "rloo"
    columns: ClassVar = {"ratio_clipped_share": "clip_ratio/region_mean"}

    def objective(self, params: Params) -> Objective:
        from gsm8k_grpo.stages.train.grpo.rloo import RLOOObjective

        return RLOOObjective()
