"""The common part of the methods that learn from sampled completions and their rewards, see `stages.train.grpo`."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.models.loading import Source
from gsm8k_grpo.records import Example
from gsm8k_grpo.stages.train import history
from gsm8k_grpo.stages.train.methods.base import TrainingMethod

if TYPE_CHECKING:
    from gsm8k_grpo.stages.train.grpo.objective import Objective
    from gsm8k_grpo.stages.train.grpo.trainer import ResumableGRPOTrainer


class SamplingMethod(TrainingMethod["ResumableGRPOTrainer"]):
    """A method whose trainer is TRL's GRPOTrainer with an objective of the method's own."""

    progress: ClassVar = {"reward": "reward", "completions/mean_length": "tokens"}
    trl_arguments = (
        "learning_rate", "lr_scheduler_type", "warmup_steps", "optim", "adam_beta1", "adam_beta2", "weight_decay",
        "max_grad_norm", "per_device_train_batch_size", "gradient_accumulation_steps", "num_generations",
        "steps_per_generation", "generation_batch_size", "num_iterations", "max_completion_length", "temperature",
        "top_p", "top_k", "beta", "epsilon", "epsilon_high", "loss_type", "scale_rewards", "importance_sampling_level",
        "delta", "mask_truncated_completions", "top_entropy_quantile", "entropy_coef", "multi_objective_aggregation",
        "min_p", "reward_weights", "shuffle_dataset", "seed", "bf16", "fp16",
        "gradient_checkpointing",
    )  # fmt: skip

    def build_trainer(
        self, rows: list[Example], variant: str, start: Source, params: Params, run_folder: Path
    ) -> ResumableGRPOTrainer:
        from gsm8k_grpo.stages.train.grpo import building

        return building.build_trainer(rows, variant, start, params, run_folder, self.objective(params))

    @abstractmethod
    def objective(self, params: Params) -> Objective:
        """The method's advantages and loss; calling this imports TRL."""

    def shaping(self, variant: str, params: Params) -> dict[str, Any]:
        return {
            "train": params.train.model_dump(),
            "rewards": params.variant_rewards(variant).model_dump(),
            "answer_form": params.extract.answer_form,
        }

    def history_format(self, variant: str, rows: int, params: Params) -> history.HistoryFormat:
        """With the column `surprisal` where no pass computes the entropy, see `SelectiveGRPOTrainer`."""
        common, train = super().history_format(variant, rows, params), params.train
        sampled = train.old_log_probs == "sampled"
        return replace(common, own=common.own | ({"surprisal": "surprisal"} if sampled else {}))

    def prompts_seen(self, step: int, rows: int, params: Params) -> int:
        return history.prompts_seen_by_generation(step, params.train)

    def prompts_left_out_per_epoch(self, rows: int, params: Params) -> int:
        """The number of rows at the end of an epoch that do not fill a generation."""
        return rows % params.train.prompts_per_generation

    def effective_config(self, trainer: ResumableGRPOTrainer) -> dict[str, Any]:
        arguments = trainer.args.to_dict()
        return {key: arguments[key] for key in self.trl_arguments} | {
            "use_vllm": trainer.use_vllm,
            "vllm_importance_sampling_correction": trainer.use_vllm and trainer.vllm_importance_sampling_correction,
            "trainer": type(trainer).__name__,
            "rewards": trainer.reward_func_names,
        }
