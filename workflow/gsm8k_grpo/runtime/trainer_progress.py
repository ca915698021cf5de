"""A progress bar for transformers' trainers, with the time left and the figures that show how training goes."""

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from gsm8k_grpo.runtime.progress import ProgressBar


class TrainerProgress(TrainerCallback):
    """Shows the steps done, the time left, and the last logged values of `shown`, which maps log keys to labels.

    Use it as a context manager around training: the bar is closed when the block ends, so that an error is printed
    below it.
    """

    bar: ProgressBar | None = None

    def __init__(self, name: str, shown: dict[str, str]):
        self.name, self.shown = name, shown

    def __enter__(self) -> "TrainerProgress":
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.bar = ProgressBar(total=state.max_steps, initial=state.global_step, desc=self.name, unit="step")

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] = {},
        **kwargs: Any,
    ) -> None:
        values = {label: f"{logs[key]:.2f}" for key, label in self.shown.items() if key in logs}
        if values and self.bar is not None:
            self.bar.set_postfix(values, refresh=False)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.bar is not None:
            self.bar.update()
