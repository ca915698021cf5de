"""Stage `train`: GRPO, or supervised fine-tuning, on the train split, one run per variant.

Reads `results/extract` and `results/base`, writes `results/train/<variant>/`: the weights in `model/`, those of
`keep_checkpoints` in `checkpoints/<step>/`, `history.csv` (a row a step), `samples.jsonl` (a few prompts' completions
over time) and `metrics.json`.  Everything is written from the last checkpoint of the run, see `checkpoints.py`.
"""

import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, set_seed
from transformers.trainer_callback import TrainerState
from trl import GRPOConfig

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.config.sections import Sft, Train
from gsm8k_grpo.files import PipelineError, read_json, read_jsonl, write_json, write_jsonl, write_text
from gsm8k_grpo.gsm8k.rewards import TABLE
from gsm8k_grpo.memory import advice
from gsm8k_grpo.models import gpu, loading
from gsm8k_grpo.runtime import interrupts
from gsm8k_grpo.runtime.trainer_progress import TrainerProgress
from gsm8k_grpo.stages.train import checkpoints, history, sft
from gsm8k_grpo.stages.train.callbacks import Curves, Keep, Samples, Session, Stop
from gsm8k_grpo.stages.train.grpo import packing
from gsm8k_grpo.stages.train.grpo.packed import PackedGRPOTrainer
from gsm8k_grpo.stages.train.grpo.rollouts import Rollouts
from gsm8k_grpo.stages.train.grpo.trainer import ResumableGRPOTrainer
from gsm8k_grpo.stages.train.resumable import ResumableMixin, arguments
from gsm8k_grpo.tracking import mlflow_runs

MLFLOW_RUN = "mlflow_run.json"  # in the run's folder: whose curves to go on with
MACHINE = ("model", "backend", "engine", "precision", "quantization", "lora", "vram_gib")
SHOWN = {"reward": "reward", "completions/mean_length": "tokens"}
EFFECTIVE = (
    "learning_rate", "lr_scheduler_type", "warmup_steps", "optim", "adam_beta1", "adam_beta2", "weight_decay",
    "max_grad_norm", "per_device_train_batch_size", "gradient_accumulation_steps", "num_generations",
    "steps_per_generation", "generation_batch_size", "num_iterations", "max_completion_length", "temperature",
    "top_p", "top_k", "beta", "epsilon", "epsilon_high", "loss_type", "scale_rewards", "importance_sampling_level",
    "mask_truncated_completions", "reward_weights", "shuffle_dataset", "seed", "bf16", "fp16",
    "gradient_checkpointing",
)  # fmt: skip


def train(variant: str, extracted: Path, base: Path, target: Path, params: Params) -> None:
    """Run the stage for one variant; the folders are those of extract and base, `target` is written.

    A run that was interrupted goes on from its newest whole checkpoint.  A signal has a checkpoint written first.
    """
    torch.set_num_threads(params.threads)
    gpu.require_gpu(params)
    gpu.limit_memory(params)
    advice.require_fit(params, params.variant_method(variant))
    set_seed(params.seed)
    data = extracted / "train.jsonl"
    run_folder = checkpoints.folder(variant, params, data, base / "base.json")
    _name_others(variant, run_folder)
    available = read_jsonl(data)
    rows = _subset(available, params.train)
    supervised = params.variant_method(variant) == "sft"
    make = sft.build_trainer if supervised else _trainer
    trainer = make(rows, variant, read_json(base / "base.json")["model"], params, run_folder)
    trainer.add_callback(Keep(trainer, params.kept_steps(variant)))
    _tell_changes(variant, "sft" if supervised else "train", params, effective_config(trainer))
    checkpoint = checkpoints.newest(run_folder)
    with mlflow_runs.running(_run(variant, params, run_folder, resumed=checkpoint is not None)) as run:
        write_json(run_folder / MLFLOW_RUN, {"id": run.id})
        run.log_params(logged(variant, params))
        run.log_dataset(data, len(rows), "training")
        if not checkpoints.finished(checkpoint):
            curves = Curves(run, params.train, params.reward_names(variant))
            _go_on(trainer, checkpoint, curves, variant)
        prompts = {
            "prompts": len(rows),
            "prompts_available": len(available),
            "prompts_left_out_per_epoch": 0 if supervised else len(rows) % params.train.prompts_per_generation,
        }
        identity = {"mlflow_run_id": run.id, "mlflow_run_key": run.key}
        _write(trainer, variant, checkpoints.newest(run_folder), target, params, prompts | identity)
    checkpoints.prune(run_folder)


def _name_others(variant: str, run_folder: Path) -> None:
    others = [run.folder for run in checkpoints.runs() if run.variant == variant and run.folder != run_folder]
    if others:
        print(
            f"train {variant}: not touched, since of other settings, data or code: {', '.join(map(str, others))}; "
            "`gsm8k-grpo checkpoints` lists and removes",
            file=sys.stderr,
        )


def _run(variant: str, params: Params, run_folder: Path, resumed: bool) -> mlflow_runs.Run:
    """The MLflow run: the one that began in the run's folder, else a new one."""
    note = run_folder / MLFLOW_RUN
    known = read_json(note)["id"] if note.exists() else None
    return mlflow_runs.Run(params, variant, run_folder.name, known, fresh=not (known or resumed))


def logged(variant: str, params: Params) -> dict[str, Any]:
    """What MLflow gets as the parameters of a training run."""
    method = params.variant_method(variant)
    common = params.model_dump(include={"seed", "source", *MACHINE, "sft" if method == "sft" else "train"})
    own = {"variant": params.variants[variant]} | (
        {} if method == "sft" else {"rewards": params.variant_rewards(variant)}
    )
    if method == "sft":
        common |= {"backend": "trl"}  # whatever that of GRPO is
    return common | {"method": method} | {name: section.model_dump() for name, section in own.items()}


def _trainer(
    rows: list[dict[str, Any]], variant: str, model: str, params: Params, run_folder: Path
) -> ResumableGRPOTrainer:
    network, tokenizer = _model(model, params)
    rewards = params.variant_rewards(variant)
    kind = ResumableGRPOTrainer
    if params.train.share_prompts:
        sampled = params.train.old_log_probs == "sampled"
        kind = partial(PackedGRPOTrainer, compiled=params.train.compile, sampled=sampled)
    trainer = kind(
        model=network,
        processing_class=tokenizer,
        reward_funcs=[TABLE[rewards.set][name] for name in rewards.weights],
        args=_config(variant, params, run_folder),
        train_dataset=Dataset.from_list([{"prompt": row["prompt"], "answer": row["answer"]} for row in rows]),
    )
    if params.engine == "vllm" and params.backend == "trl":
        trainer.generate_with(Rollouts(trainer, params), corrected=params.train.old_log_probs == "computed")
    trainer.remove_callback(PrinterCallback)  # the bar says it
    samples = Samples(trainer, params.train.sample_steps, params.train.sample_prompts, list(rewards.weights))
    trainer.savers.append(samples.save)
    trainer.add_callback(samples)
    return trainer


def _model(name: str, params: Params) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    if params.backend == "unsloth":
        from gsm8k_grpo.stages.train.grpo import unsloth_backend

        return unsloth_backend.load(name, params)
    # Flash attention computes in 16 bit alone; in 32 bit a mask does it.
    flash = params.train.share_prompts and params.precision != "float32"
    attention = packing.ATTENTION if flash else "sdpa"
    network, tokenizer = loading.load(loading.Source(name), params, attention)
    return loading.adapt(network, params.lora) if params.lora else network, tokenizer


def _go_on(trainer: ResumableMixin, checkpoint: Path | None, curves: Curves, variant: str) -> None:
    """Train from the checkpoint, or from the start, to the end or to the next signal."""
    if checkpoint:
        print(f"going on from {checkpoint}", file=sys.stderr)
    shown = sft.SHOWN if isinstance(trainer, sft.ResumableSFTTrainer) else SHOWN
    with (
        TrainerProgress(f"train {variant}", shown) as progress,
        interrupts.deferred() as request,
        gpu.PeakMemory() as peak,
    ):
        trainer.savers.append(Session(trainer, checkpoint, peak).save)
        for callback in (progress, curves, Stop(request)):
            trainer.add_callback(callback)
        trainer.train(resume_from_checkpoint=checkpoint)
    request.obey()


def _write(trainer: ResumableMixin, variant: str, checkpoint: Path, target: Path, params: Params, known: dict) -> None:
    """Write the stage's files from the last checkpoint; metrics.json goes first and comes last."""
    (target / "metrics.json").unlink(missing_ok=True)
    target.mkdir(parents=True, exist_ok=True)
    checkpoints.promote(checkpoint, target / "model")
    shutil.rmtree(target / "checkpoints", ignore_errors=True)
    (target / "checkpoints").mkdir()
    for step in params.kept_steps(variant):
        checkpoints.promote(checkpoints.kept(checkpoint.parent, step), target / "checkpoints" / str(step))
    state = TrainerState.load_from_json(str(checkpoint / checkpoints.STATE))
    steps = history.rows(state.log_history, params.train, params.reward_names(variant))
    write_text(target / "history.csv", pd.DataFrame(steps).to_csv(index=False))
    write_jsonl(target / "samples.jsonl", read_jsonl(checkpoint / "samples.jsonl"))
    figures = {
        "method": params.variant_method(variant),
        "steps": state.global_step,
        "epochs": steps[-1]["epoch"],
        "prompts_seen": steps[-1]["prompts_seen"],
        "tokens": int(state.num_input_tokens_seen),
        "reward_first": steps[0]["reward"],
        "reward_last": steps[-1]["reward"],
        **{name: round(sum(row[name] for row in steps), 2) for name in history.SECONDS},
    }
    effective = {"effective_config": effective_config(trainer) | {"max_steps": state.max_steps}}
    write_json(target / "metrics.json", known | figures | read_json(checkpoint / "session.json") | effective)


def _subset(rows: list[dict[str, Any]], train: Train) -> list[dict[str, Any]]:
    if train.prompts is not None and train.prompts > len(rows):
        raise PipelineError(
            f"train.prompts = {train.prompts}: the train split has {len(rows)} rows; give at most that, or null for all"
        )
    return rows[: train.prompts]


def _config(variant: str, params: Params, run_folder: Path) -> GRPOConfig:
    """TRL's configuration: the section `train` under TRL's own names, and what every trainer is told."""
    own = {"prompts", "sample_steps", "sample_prompts", "warmup_ratio", "share_prompts", "compile", "old_log_probs"}
    return GRPOConfig(
        **params.train.model_dump(exclude=own),
        **arguments(variant, params, run_folder, params.train.warmup_ratio),
        reward_weights=list(params.variant_rewards(variant).weights.values()),
        # With backend trl the engine is ours, see rollouts.py; Unsloth has its own, which TRL's settings start.
        use_vllm=params.backend == "unsloth" and params.engine == "vllm",
        vllm_mode="colocate",
    )


def _tell_changes(variant: str, section: str, params: Params, effective: dict[str, Any]) -> None:
    """Say what a library has changed of what it was asked for, which it may do without a word."""
    asked: Train | Sft = getattr(params, section)
    for key, value in asked.model_dump().items():
        if key in effective and effective[key] != value:
            print(
                f"train {variant}: {section}.{key} = {value} was asked for; the trainer runs with {effective[key]}",
                file=sys.stderr,
            )


def effective_config(trainer: ResumableMixin) -> dict[str, Any]:
    """What TRL really runs with, read back from the trainer."""
    return (
        sft.effective_config(trainer) if isinstance(trainer, sft.ResumableSFTTrainer) else _effective_grpo(trainer)
    ) | {
        "trainable_parameters": sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
        "parameters": trainer.model.num_parameters(),
        "dtype": str(trainer.model.dtype).removeprefix("torch."),
        "device": trainer.model.device.type,
        "threads": torch.get_num_threads(),
    }


def _effective_grpo(trainer: ResumableGRPOTrainer) -> dict[str, Any]:
    args = trainer.args.to_dict()
    return {key: args[key] for key in EFFECTIVE} | {
        "use_vllm": trainer.use_vllm,
        "vllm_importance_sampling_correction": trainer.use_vllm and trainer.vllm_importance_sampling_correction,
        "trainer": type(trainer).__name__,
        "rewards": trainer.reward_func_names,
    }
