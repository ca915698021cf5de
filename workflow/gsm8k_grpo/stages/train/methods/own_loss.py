"""The common part of the methods with a loss of this project's own on completions that TRL's GRPOTrainer samples."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsm8k_grpo.config import effects
from gsm8k_grpo.config.params import Params
from gsm8k_grpo.models.loading import Source
from gsm8k_grpo.records import Example
from gsm8k_grpo.stages.train.history import HistoryFormat
from gsm8k_grpo.stages.train.methods.base import TrainingMethod
from gsm8k_grpo.stages.train.methods.sampling import SamplingMethod

if TYPE_CHECKING:
    from gsm8k_grpo.stages.train.grpo.trainer import ResumableGRPOTrainer

OF_TRLS_LOSS = {*effects.OF_TRLS_LOSS, *effects.NEUTRAL}  # TRL's arguments that have no effect on these methods


class OwnLossMethod(SamplingMethod):
    """A method that has a section of its own in the configuration, in addition to `train`."""

    def build_trainer(
        self, rows: list[Example], variant: str, start: Source, params: Params, run_folder: Path
    ) -> ResumableGRPOTrainer:
        # TRL loads a reference if its own `beta` is above 0.
        settings = params.settings_of(variant).model_copy(update={"beta": params.reference_weight(self.name)})
        return super().build_trainer(rows, variant, start, params.model_copy(update={"train": settings}), run_folder)

    def history_format(self, variant: str, rows: int, params: Params) -> HistoryFormat:
        """Without the column `surprisal`, since every update computes entropies."""
        return TrainingMethod.history_format(self, variant, rows, params)

    def own_settings(self, params: Params) -> dict[str, Any]:
        """The method's own section of the configuration, in a dictionary with the name of the section as its key."""
        name = self.traits.own_section
        assert name is not None
        return {name: getattr(params, name).model_dump()}

    def shaping(self, variant: str, params: Params) -> dict[str, Any]:
        return super().shaping(variant, params) | self.own_settings(params)

    def mlflow_params(self, variant: str, params: Params) -> dict[str, Any]:
        return super().mlflow_params(variant, params) | self.own_settings(params)

    def effective_config(self, trainer: ResumableGRPOTrainer) -> dict[str, Any]:
        of_trl = super().effective_config(trainer)
        kept = {key: value for key, value in of_trl.items() if key not in OF_TRLS_LOSS}
        return kept | {self.name: vars(trainer.objective)}
