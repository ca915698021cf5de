"""The method `online_dpo`: a loss that prefers the best of a prompt's completions to the worst."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.stages.train.methods.own_loss import OwnLossMethod

if TYPE_CHECKING:
    from gsm8k_grpo.stages.train.grpo.objective import Objective


class OnlineDPO(OwnLossMethod):
    name = "online_dpo"
    columns: ClassVar = {name: name for name in ("tied_share", "margin", "preferred_share")}

    def objective(self, params: Params) -> Objective:
        from gsm8k_grpo.stages.train.online_dpo.objective import OnlineDPOObjective

        return OnlineDPOObjective(params.online_dpo.loss, params.online_dpo.beta)
