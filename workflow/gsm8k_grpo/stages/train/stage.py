"""Stage `train`: train one variant on the train split, by the method that the configuration gives it.

Reads `results/extract`, `results/base` and, for a variant with a `start`, the weights that the start's training wrote.
Writes `results/train/<variant>/`: the final weights in `model/`, those of the steps in `keep_checkpoints` in
`checkpoints/<step>/`, `history.csv` (one row per step), `samples.jsonl` (a few prompts' completions over time) and
`metrics.json`.  Everything is written from the last checkpoint of the run, see `checkpoints.py`.
"""

import shutil
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from transformers import set_seed
from transformers.trainer_callback import TrainerCallback, TrainerState

from gsm8k_grpo.config import effects
from gsm8k_grpo.config.params import Params
from gsm8k_grpo.config.sections import Train
from gsm8k_grpo.files import PipelineError, read_json, read_jsonl, write_json, write_jsonl, write_text
from gsm8k_grpo.memory import advice, suitability
from gsm8k_grpo.models import gpu
from gsm8k_grpo.records import Example, HistoryRow, Session, TrainingMetrics
from gsm8k_grpo.runtime import interrupts, ranks
from gsm8k_grpo.runtime.trainer_progress import TrainerProgress
from gsm8k_grpo.stages.train import checkpoints, history, parallel, run_folders, sharding, signal, starts
from gsm8k_grpo.stages.train.callbacks import CurveLogger, StopOnSignal, WeightKeeper
from gsm8k_grpo.stages.train.history import HistoryFormat
from gsm8k_grpo.stages.train.methods import TrainingMethod, method_of
from gsm8k_grpo.stages.train.resumable import ResumableMixin
from gsm8k_grpo.stages.train.session import SessionRecorder
from gsm8k_grpo.stages.train.signal import SignalWatcher
from gsm8k_grpo.tracking import mlflow_runs


def train(variant: str, extracted: Path, base: Path, target: Path, params: Params) -> None:
    """Run the stage for one variant.

    An interrupted run resumes from its newest intact checkpoint.  A signal saves a checkpoint before the run stops.

    Args:
        extracted, base: the result folders of the stages extract and base.
        target: the folder to write, next to those of the other variants.
    """
    torch.set_num_threads(params.threads)
    gpu.require_gpu(params)
    gpu.limit_memory(params)
    suitability.require_suitable(params)
    advice.require_fit(params, params.variant_method(variant), params.gpus_of(variant))
    set_seed(params.seed)

    data = extracted / "train.jsonl"
    start = starts.folder(variant, target.parent, params)
    source = starts.source(start, base, params)
    run_folder = run_folders.folder(variant, params, data, base / "base.json", start)
    _mention_other_runs(variant, run_folder)
    available: list[Example] = read_jsonl(data)
    rows = _subset(available, params.train)

    method = method_of(params.variant_method(variant))
    trainer = method.build_trainer(rows, variant, source, params, run_folder)
    trainer.add_callback(WeightKeeper(trainer, params.kept_steps(variant)))
    _report_changes(variant, params, _effective_config(method, trainer))

    history_format = method.history_format(variant, len(rows), params)
    watcher = SignalWatcher(variant, history_format, params)
    checkpoint = _newest(run_folder)
    if ranks.rank():  # rank 0 writes everything
        if not (checkpoint and _complete(checkpoints.state(checkpoint), history_format, params)):
            _train(trainer, checkpoint, watcher)
        return
    with mlflow_runs.running(_mlflow_run(variant, params, run_folder, resumed=checkpoint is not None)) as run:
        write_json(run_folder / run_folders.MLFLOW_RUN, {"id": run.id})
        run.log_params(method.mlflow_params(variant, params))
        run.log_dataset(data, len(rows), "training")
        if checkpoint and _complete(checkpoints.state(checkpoint), history_format, params):
            print(
                f"train {variant}: complete in {checkpoint}, so the results are written from there without training; "
                f"to train anew, first `gsm8k-grpo checkpoints --remove {run_folder.name}`",
                file=sys.stderr,
            )
        else:
            curves = CurveLogger(run, history_format)
            with TrainerProgress(f"train {variant}", method.progress) as progress:
                _train(trainer, checkpoint, watcher, progress, curves)
            checkpoint = checkpoints.newest(run_folder)
        assert checkpoint is not None  # transformers saves a checkpoint at the last step

        state = checkpoints.state(checkpoint)
        session: Session = read_json(checkpoint / "session.json")
        steps: list[dict[str, Any]] = history_format.rows(state.log_history)
        watched = signal.watch(steps, params)
        stopped = state.global_step < state.max_steps
        metrics: TrainingMetrics = {
            "prompts": len(rows),
            "prompts_available": len(available),
            "prompts_left_out_per_epoch": method.prompts_left_out_per_epoch(len(rows), params),
            "mlflow_run_id": run.id,
            "mlflow_run_key": run.key,
            "method": method.name,
            "steps": state.global_step,
            "epochs": steps[-1]["epoch"],
            "prompts_seen": steps[-1]["prompts_seen"],
            "tokens": int(state.num_input_tokens_seen),
            "skipped_steps": history.skipped_steps(steps),
            "reward_first": steps[0]["reward"],
            "reward_last": steps[-1]["reward"],
            "share_without_signal": signal.share_without_signal(steps),
            "warnings": watched.warnings,
            "stopped_at": state.global_step if stopped else None,
            "stop_reason": watched.stop_reason if stopped else None,
            "seconds_generate": _total(steps, "seconds_generate"),
            "seconds_score": _total(steps, "seconds_score"),
            "seconds_update": _total(steps, "seconds_update"),
            **session,
            "effective_config": _effective_config(method, trainer) | {"max_steps": state.max_steps},
        }
        kept = [step for step in params.kept_steps(variant) if step <= state.global_step]
        _write(checkpoint, kept, steps, metrics, target)
    checkpoints.prune(run_folder)


def _complete(state: TrainerState, history_format: HistoryFormat, params: Params) -> bool:
    """Whether a run in this state is over: it has taken its last step, or it was stopped because it had no signal."""
    if state.global_step >= state.max_steps:
        return True
    rows: list[HistoryRow] = history_format.rows(state.log_history)
    return signal.watch(rows, params).stop_reason is not None


def _subset(rows: list[Example], train: Train) -> list[Example]:
    if train.prompts is not None and train.prompts > len(rows):
        raise PipelineError(
            f"train.prompts = {train.prompts}: the train split has {len(rows)} rows; give at most that, or null for all"
        )
    return rows[: train.prompts]


def _mention_other_runs(variant: str, run_folder: Path) -> None:
    others = [run.folder for run in run_folders.runs() if run.variant == variant and run.folder != run_folder]
    if others:
        print(
            f"train {variant}: leaving alone the checkpoints of other settings, data or code: "
            f"{', '.join(map(str, others))}; `gsm8k-grpo checkpoints` lists and removes them",
            file=sys.stderr,
        )


def _effective_config(method: TrainingMethod[Any], trainer: ResumableMixin) -> dict[str, Any]:
    """The configuration that the trainer really runs with, and the model that it trains."""
    model = trainer.model
    return method.effective_config(trainer) | {
        "trainable_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "parameters": model.num_parameters(),
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": model.device.type,
        "threads": torch.get_num_threads(),
        "gpus": ranks.count(),
        "shard_weights": sharding.is_sharded(model),
    }


def _report_changes(variant: str, params: Params, effective: dict[str, Any]) -> None:
    """Print the settings that a library has changed, which it may do silently.

    The settings that correct for vLLM's probabilities are not compared, since `config.effects` reports where they have
    no effect.
    """
    section = params.traits(variant).section
    settings = params.settings_of(variant).of_one_gpu(ranks.count())
    for key, value in settings.model_dump(exclude=set(effects.CORRECTION)).items():
        if key in effective and effective[key] != value:
            print(
                f"train {variant}: {section}.{key} = {value} is configured, but the trainer runs with {effective[key]}",
                file=sys.stderr,
            )


def _mlflow_run(variant: str, params: Params, run_folder: Path, resumed: bool) -> mlflow_runs.Run:
    """The MLflow run that was started for the run's folder, or a new one."""
    note = run_folder / run_folders.MLFLOW_RUN
    known = read_json(note)["id"] if note.exists() else None
    return mlflow_runs.Run(params, variant, run_folder.name, known, fresh=not (known or resumed))


def _newest(run_folder: Path) -> Path | None:
    """The newest intact checkpoint.

    Only rank 0 looks, on behalf of all ranks: looking removes damaged checkpoints, and in a shared folder another node
    may still see an older list of files.
    """
    return parallel.of_first(checkpoints.newest(run_folder) if ranks.rank() == 0 else None)


def _train(trainer: ResumableMixin, checkpoint: Path | None, *callbacks: TrainerCallback) -> None:
    """Train from the checkpoint, or from the start, to the end.

    Raises:
        Interrupted: after a signal, once a checkpoint has been saved.
    """
    if checkpoint:
        print(f"resuming from {checkpoint}", file=sys.stderr)
    with interrupts.deferred() as request, gpu.PeakMemory() as peak:
        trainer.request = request
        trainer.rank_savers.append(SessionRecorder(trainer, checkpoint, peak).save)
        for callback in (*callbacks, StopOnSignal(request)):
            trainer.add_callback(callback)
        trainer.train_from(checkpoint)
    request.obey()


def _total(steps: list[dict[str, Any]], column: str) -> float:
    return round(sum(row[column] for row in steps), 2)


def _write(
    checkpoint: Path, kept_steps: list[int], steps: list[dict[str, Any]], metrics: TrainingMetrics, target: Path
) -> None:
    """Write the stage's files from the last checkpoint; metrics.json is removed first and written last."""
    (target / "metrics.json").unlink(missing_ok=True)
    target.mkdir(parents=True, exist_ok=True)
    checkpoints.promote(checkpoint, target / "model")
    shutil.rmtree(target / "checkpoints", ignore_errors=True)
    (target / "checkpoints").mkdir()
    for step in kept_steps:
        checkpoints.promote(checkpoints.kept(checkpoint.parent, step), target / "checkpoints" / str(step))
    write_text(target / "history.csv", pd.DataFrame(steps).to_csv(index=False))
    write_jsonl(target / "samples.jsonl", read_jsonl(checkpoint / "samples.jsonl"))
    write_json(target / "metrics.json", metrics)
