"""A progress bar for transformers' trainers: time left, and the figures that tell how it goes."""

from transformers import TrainerCallback

from gsm8k_grpo.runtime.progress import ProgressBar


class TrainerProgress(TrainerCallback):
    """Shows steps done and left, and the last logged values of `shown`, a mapping from log key to label.

    The bar ends with the block that it is entered for: an error stands below it, not above.
    """

    bar: ProgressBar | None = None

    def __init__(self, name: str, shown: dict[str, str]):
        self.name, self.shown = name, shown

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self.bar is not None:
            self.bar.close()

    def on_train_begin(self, args, state, control, **kwargs):
        self.bar = ProgressBar(total=state.max_steps, initial=state.global_step, desc=self.name, unit="step")

    def on_log(self, args, state, control, logs, **kwargs):
        values = {label: f"{logs[key]:.2f}" for key, label in self.shown.items() if key in logs}
        if values:
            self.bar.set_postfix(values, refresh=False)

    def on_step_end(self, args, state, control, **kwargs):
        self.bar.update()
