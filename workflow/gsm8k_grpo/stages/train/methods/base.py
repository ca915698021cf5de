"""What the stage needs to know about a training method."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from gsm8k_grpo.config.methods import METHODS, MethodTraits
from gsm8k_grpo.config.params import Params
from gsm8k_grpo.models.loading import Source
from gsm8k_grpo.records import Example, Method
from gsm8k_grpo.stages.train.history import HistoryFormat

if TYPE_CHECKING:  # TRL is imported when a trainer is built, so that commands which only ask about a run start quickly
    from gsm8k_grpo.stages.train.resumable import ResumableMixin

TrainerT = TypeVar("TrainerT", bound="ResumableMixin")

MACHINE = ("model", "backend", "engine", "precision", "quantization", "lora", "vram_gib")


class TrainingMethod(ABC, Generic[TrainerT]):
    """A training method; its subclasses have no state.

    Attributes:
        name: the method's name in the configuration.
        progress: the figures that the progress bar shows, as labels by log key.
        columns: columns of history.csv that only this method has, with their log keys; their titles are in `HEALTH` of
            the report's figures.
        trl_arguments: TRL's arguments that are reported as the effective configuration.
    """

    name: ClassVar[Method]
    progress: ClassVar[dict[str, str]]
    columns: ClassVar[dict[str, str]] = {}
    trl_arguments: ClassVar[tuple[str, ...]]

    @property
    def traits(self) -> MethodTraits:
        return METHODS[self.name]

    @abstractmethod
    def build_trainer(
        self, rows: list[Example], variant: str, start: Source, params: Params, run_folder: Path
    ) -> TrainerT:
        """The trainer of a variant.

        Args:
            rows: the rows of the train split that the variant is trained on.
            start: the model that training starts from: base, or the weights of another variant.
            run_folder: where checkpoints are saved.
        """

    @abstractmethod
    def shaping(self, variant: str, params: Params) -> dict[str, Any]:
        """The part of the configuration that shapes this method's training, for the resume hash."""

    @abstractmethod
    def prompts_seen(self, step: int, rows: int, params: Params) -> int:
        """The number of prompts that the first `step` steps trained on, with `rows` rows of training data."""

    @abstractmethod
    def prompts_left_out_per_epoch(self, rows: int, params: Params) -> int:
        """The number of rows that an epoch does not train on."""

    def effective_config(self, trainer: TrainerT) -> dict[str, Any]:
        """The configuration that TRL really runs with, read back from the trainer."""
        arguments = trainer.args.to_dict()
        return {key: arguments[key] for key in self.trl_arguments} | {"trainer": type(trainer).__name__}

    def mlflow_params(self, variant: str, params: Params) -> dict[str, Any]:
        """The parameters of a training run in MLflow."""
        logged = params.model_dump(include={"seed", "source", *MACHINE, self.traits.section})
        if not self.traits.learns_from_rewards:
            logged |= {"backend": "trl"}  # the configured backend is for methods that sample completions
        own = params.variants[variant]
        logged |= {"method": self.name, "start": own.start or "base", "variant": own.model_dump()}
        if self.traits.learns_from_rewards:
            logged |= {"rewards": params.variant_rewards(variant).model_dump()}
        return logged

    def history_format(self, variant: str, rows: int, params: Params) -> HistoryFormat:
        """How the trainer's log becomes the rows of history.csv."""
        return HistoryFormat(
            lambda step: self.prompts_seen(step, rows, params), params.reward_names(variant), self.columns
        )
