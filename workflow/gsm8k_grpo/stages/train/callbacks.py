"""What happens beside the steps of a training run: samples kept, weights kept, curves sent, a signal obeyed."""

import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from gsm8k_grpo.config.sections import Train
from gsm8k_grpo.files import PipelineError, read_json, read_jsonl, write_json, write_jsonl
from gsm8k_grpo.models import gpu
from gsm8k_grpo.models.gpu import EnergyMeter
from gsm8k_grpo.runtime import interrupts
from gsm8k_grpo.stages.train import checkpoints, history
from gsm8k_grpo.stages.train.grpo.trainer import ResumableGRPOTrainer
from gsm8k_grpo.stages.train.resumable import ResumableMixin
from gsm8k_grpo.tracking import mlflow_runs

FLUSH_STEPS = 25  # rows of history sent to MLflow together


class Samples(TrainerCallback):
    """Keeps the completions of a few prompts every `every` steps, in each checkpoint too."""

    def __init__(self, trainer: ResumableGRPOTrainer, every: int, prompts: int, rewards: list[str]):
        self.trainer, self.every, self.prompts, self.names = trainer, every, prompts, rewards
        self.rows: list[dict[str, Any]] = []

    def save(self, checkpoint: Path) -> None:
        write_jsonl(checkpoint / "samples.jsonl", self.rows)

    def on_train_begin(self, args, state, control, **kwargs):
        if state.global_step:
            self.rows = read_jsonl(Path(args.output_dir) / f"checkpoint-{state.global_step}" / "samples.jsonl")

    def on_log(self, args, state, control, logs, **kwargs):
        if "reward" not in logs or (state.global_step - 1) % self.every:
            return
        prompts, completions, rewards = self.trainer.latest
        for index in range(0, self.prompts * args.num_generations, args.num_generations):
            self.rows.append(
                {
                    "step": state.global_step,
                    "question": prompts[index][-1]["content"],
                    "completion": completions[index][0]["content"],
                    "rewards": dict(zip(self.names, rewards[index].tolist(), strict=True)),
                }
            )


class Keep(TrainerCallback):
    """Keeps the weights of the steps that keep_checkpoints names."""

    def __init__(self, trainer: ResumableMixin, steps: list[int]):
        self.trainer, self.steps = trainer, steps

    def on_train_begin(self, args, state, control, **kwargs):
        beyond = [step for step in self.steps if step >= state.max_steps]
        if beyond:
            raise PipelineError(
                f"keep_checkpoints = {beyond[0]}: the run has {state.max_steps} steps, whose last weights are the "
                "model; name smaller steps"
            )

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step in self.steps:
            size = self.trainer.weights_size()
            checkpoints.keep(Path(args.output_dir), state.global_step, self.trainer.save_weights, size)


class Session:
    """Time, energy and memory of the run over all its sessions: each checkpoint says what led to it."""

    def __init__(self, trainer: ResumableMixin, checkpoint: Path | None, peak: gpu.PeakMemory):
        self.trainer, self.began, self.peak, self.energy = trainer, time.perf_counter(), peak, EnergyMeter()
        fresh = {"seconds": 0.0, "seconds_saving": 0.0, "energy_kwh": 0.0, "peak_memory_gib": 0.0, "sessions": 0}
        self.before = read_json(checkpoint / "session.json") if checkpoint else fresh

    def save(self, checkpoint: Path) -> None:
        write_json(
            checkpoint / "session.json",
            {
                "seconds": round(self.before["seconds"] + time.perf_counter() - self.began, 2),
                "seconds_saving": round(self.before["seconds_saving"] + self.trainer.seconds_saving, 3),
                "energy_kwh": self._energy(),
                "peak_memory_gib": round(max(self.before["peak_memory_gib"], self.peak.read()), 3),
                "sessions": self.before["sessions"] + 1,
            },
        )

    def _energy(self) -> float | None:
        """kWh; none from the session on whose card doesn't count it."""
        taken, before = self.energy.read(), self.before["energy_kwh"]
        return None if taken is None or before is None else round(before + taken, 6)


class Curves(TrainerCallback):
    """Sends the rows of history to MLflow while the run goes on; what doesn't arrive is sent with the next."""

    def __init__(self, run: mlflow_runs.Run, train: Train, rewards: list[str]):
        self.run, self.train, self.rewards = run, train, rewards
        self.rows: list[history.Row] = []

    def on_train_begin(self, args, state, control, **kwargs):
        self.rows = history.rows(state.log_history, self.train, self.rewards)

    def on_log(self, args, state, control, logs, **kwargs):
        if "grad_norm" not in logs:  # the summary that ends a run
            return
        before = self.rows[-1] if self.rows else None
        self.rows.append(history.row(state.log_history[-1], before, self.train, self.rewards))
        if state.global_step % FLUSH_STEPS == 0:
            self.run.log_curves(self.rows)

    def on_train_end(self, args, state, control, **kwargs):
        self.run.log_curves(self.rows)


class Stop(TrainerCallback):
    """Ends training at the end of the step in which a signal came, with a checkpoint."""

    def __init__(self, request: interrupts.Request):
        self.request = request

    def on_step_end(self, args, state, control, **kwargs):
        if self.request.signum is not None:
            control.should_save = control.should_training_stop = True
