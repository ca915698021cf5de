"""Callbacks of every training run: keep the weights of some steps, log curves to MLflow, and stop when the process gets
a signal such as SIGTERM.
"""

from functools import partial
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.records import HistoryRow
from gsm8k_grpo.runtime import interrupts, ranks
from gsm8k_grpo.stages.train import checkpoints, parallel
from gsm8k_grpo.stages.train.history import HistoryFormat
from gsm8k_grpo.stages.train.resumable import ResumableMixin
from gsm8k_grpo.tracking import mlflow_runs

FLUSH_STEPS = 25  # steps between two requests to MLflow


class WeightKeeper(TrainerCallback):
    """Saves the weights of the steps in `keep_checkpoints`."""

    def __init__(self, trainer: ResumableMixin, steps: list[int]):
        self.trainer, self.steps = trainer, steps

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        beyond = [step for step in self.steps if step >= state.max_steps]
        if beyond:
            raise PipelineError(
                f"keep_checkpoints = {beyond[0]}: the run has {state.max_steps} steps, and its model holds the weights "
                "after the last one; name smaller steps"
            )

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.global_step not in self.steps:
            return
        weights = self.trainer.whole_weights()
        if ranks.rank() == 0:
            save, size = partial(self.trainer.save_weights, weights=weights), self.trainer.weights_size()
            checkpoints.keep(self.trainer.run_folder, state.global_step, save, size)


class CurveLogger(TrainerCallback):
    """Sends the rows of history to MLflow during the run; rows that do not arrive are sent with the next ones."""

    def __init__(self, run: mlflow_runs.Run, history_format: HistoryFormat):
        self.run, self.history_format = run, history_format
        self.rows: list[HistoryRow] = []

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.rows = self.history_format.rows(state.log_history)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] = {},
        **kwargs: Any,
    ) -> None:
        if "grad_norm" not in logs:  # the summary at the end of a run
            return
        before = self.rows[-1] if self.rows else None
        self.rows.append(self.history_format.row(state.log_history[-1], before))
        if state.global_step % FLUSH_STEPS == 0:
            self.run.log_curves(self.rows)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.run.log_curves(self.rows)


class StopOnSignal(TrainerCallback):
    """After a signal to any rank, saves a checkpoint and stops training at the end of the current step.

    During a generation training stops at once, see `ResumableMixin.stopping_at_once`.
    """

    def __init__(self, request: interrupts.Request):
        self.request = request

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if parallel.anywhere(self.request.signum is not None):
            control.should_save = control.should_training_stop = True
