"""samples.jsonl: the completions of a few prompts over the course of training."""

from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from gsm8k_grpo.files import read_jsonl, write_jsonl
from gsm8k_grpo.records import TrainingSample
from gsm8k_grpo.stages.train.grpo.trainer import ResumableGRPOTrainer


class SampleRecorder(TrainerCallback):
    """Records one completion of each of the first `prompts` prompts of a generation, every `every` steps.

    A step that does not generate records nothing.  The rows are part of each checkpoint, so that a resumed run still
    has those of earlier sessions.
    """

    def __init__(self, trainer: ResumableGRPOTrainer, every: int, prompts: int, rewards: list[str]):
        self.trainer, self.every, self.prompts, self.rewards = trainer, every, prompts, rewards
        self.rows: list[TrainingSample] = []

    def save(self, checkpoint: Path) -> None:
        write_jsonl(checkpoint / "samples.jsonl", self.rows)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step:
            checkpoint = self.trainer.run_folder / f"checkpoint-{state.global_step}"
            self.rows = read_jsonl(checkpoint / "samples.jsonl")

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] = {},
        **kwargs: Any,
    ) -> None:
        if "reward" not in logs or (state.global_step - 1) % self.every:
            return
        prompts, completions, rewards = self.trainer.latest
        group_size = self.trainer.num_generations
        for index in range(0, min(self.prompts * group_size, len(completions)), group_size):
            self.rows.append(
                {
                    "step": state.global_step,
                    "question": prompts[index][-1]["content"],
                    "completion": completions[index][0]["content"],
                    "rewards": dict(zip(self.rewards, rewards[index].tolist(), strict=True)),
                }
            )
