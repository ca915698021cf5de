"""The method `sft`: supervised fine-tuning on the solutions of the data, by TRL's SFTTrainer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.models.loading import Source
from gsm8k_grpo.records import Example
from gsm8k_grpo.stages.train import history
from gsm8k_grpo.stages.train.methods.base import TrainingMethod

if TYPE_CHECKING:
    from gsm8k_grpo.stages.train.sft import ResumableSFTTrainer


class SFT(TrainingMethod["ResumableSFTTrainer"]):
    name = "sft"
    progress: ClassVar = {"loss": "loss", "completions/mean_length": "tokens"}
    trl_arguments = (
        "learning_rate", "lr_scheduler_type", "warmup_steps", "optim", "adam_beta1", "adam_beta2", "weight_decay",
        "max_grad_norm", "per_device_train_batch_size", "gradient_accumulation_steps", "max_length", "loss_type",
        "packing", "seed", "bf16", "fp16", "gradient_checkpointing",
    )  # fmt: skip

    def build_trainer(
        self, rows: list[Example], variant: str, start: Source, params: Params, run_folder: Path
    ) -> ResumableSFTTrainer:
        from gsm8k_grpo.stages.train import sft

        return sft.build_trainer(rows, variant, start, params, run_folder)

    def shaping(self, variant: str, params: Params) -> dict[str, Any]:
        return {
            "sft": params.sft.model_dump(),
            "prompts": params.train.prompts,
            "answers": params.extract.answers,
            "answer_form": params.extract.answer_form,
        }

    def prompts_seen(self, step: int, rows: int, params: Params) -> int:
        sft = params.sft
        return history.prompts_seen_by_epoch(
            step, rows, sft.per_device_train_batch_size, sft.gradient_accumulation_steps
        )

    def prompts_left_out_per_epoch(self, rows: int, params: Params) -> int:
        return 0
