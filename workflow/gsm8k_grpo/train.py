"""Stage `train`: GRPO on the train split, one run per variant.

Reads `results/extract` and `results/base`, writes `results/train/<variant>/`: the weights in `model/`,
`history.csv` (a row a step), `samples.jsonl` (a few prompts' completions over time) and `metrics.json`.
"""

import resource
import shutil
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback, set_seed
from trl import GRPOConfig

from gsm8k_grpo import checkpoints, history, models, tracking
from gsm8k_grpo.files import PipelineError, read_json, read_jsonl, write_json, write_jsonl, write_text
from gsm8k_grpo.grpo import Trainer
from gsm8k_grpo.params import Params, Rewards, Train
from gsm8k_grpo.progress import Progress
from gsm8k_grpo.rewards import TABLE

SHOWN = {"reward": "reward", "completions/mean_length": "tokens"}
FLUSH_STEPS = 25  # rows of history sent to MLflow together
EFFECTIVE = (
    "learning_rate", "lr_scheduler_type", "warmup_steps", "optim", "adam_beta1", "adam_beta2", "weight_decay",
    "max_grad_norm", "per_device_train_batch_size", "gradient_accumulation_steps", "num_generations",
    "steps_per_generation", "generation_batch_size", "num_iterations", "max_completion_length", "temperature",
    "top_p", "top_k", "beta", "epsilon", "epsilon_high", "loss_type", "scale_rewards", "importance_sampling_level",
    "mask_truncated_completions", "reward_weights", "shuffle_dataset", "seed", "bf16", "fp16",
    "gradient_checkpointing", "use_vllm",
)  # fmt: skip


def train(variant: str, extracted: Path, base: Path, target: Path, params: Params) -> None:
    """Run the stage for one variant; the folders are those of extract and base, `target` is written.

    A run that was interrupted goes on from its newest checkpoint.
    """
    torch.set_num_threads(params.threads)
    set_seed(params.seed)
    rewards = params.variant_rewards(variant)
    available = read_jsonl(extracted / "train.jsonl")
    rows = _subset(available, params.train)
    scratch = checkpoints.folder(variant, params, extracted / "train.jsonl")
    trainer = _trainer(rows, read_json(base / "base.json")["model"], rewards, _config(variant, params, scratch))
    samples = Samples(trainer, params.train.sample_steps, params.train.sample_prompts, list(rewards.weights))
    logged = params.model_dump(include={"seed", "source", "model", "train"})
    logged |= {"rewards": rewards.model_dump(), "variant": params.variants[variant].model_dump()}
    with tracking.run(params, variant, logged) as run_id:
        tracking.log_dataset(extracted / "train.jsonl", len(rows), "training")
        for callback in (Progress(f"train {variant}", SHOWN), samples, Curves(run_id, params, list(rewards.weights))):
            trainer.add_callback(callback)
        began = time.perf_counter()
        trainer.train(resume_from_checkpoint=checkpoints.newest(scratch))
        seconds = time.perf_counter() - began
    trainer.save_model(str(target / "model"))
    (target / "model" / "training_args.bin").unlink()  # a pickle; what it holds is in metrics.json
    steps = history.rows(trainer.state.log_history, params.train, rewards.weights)
    write_text(target / "history.csv", pd.DataFrame(steps).to_csv(index=False))
    write_jsonl(target / "samples.jsonl", samples.rows)
    prompts = {
        "prompts": len(rows),
        "prompts_available": len(available),
        "prompts_left_out_per_epoch": len(rows) % params.train.prompts_per_generation,
    }
    write_json(target / "metrics.json", prompts | _metrics(trainer, steps, seconds) | {"mlflow_run_id": run_id})
    shutil.rmtree(scratch)


def _trainer(rows: list[dict[str, Any]], model: str, rewards: Rewards, config: GRPOConfig) -> Trainer:
    weights, tokenizer = models.load(model)
    trainer = Trainer(
        model=weights,
        processing_class=tokenizer,
        reward_funcs=[TABLE[rewards.set][name] for name in rewards.weights],
        args=config,
        train_dataset=Dataset.from_list([{"prompt": row["prompt"], "answer": row["answer"]} for row in rows]),
    )
    trainer.remove_callback(PrinterCallback)  # the bar says it
    return trainer


def _metrics(trainer: Trainer, steps: list[history.Row], seconds: float) -> dict[str, Any]:
    return {
        "steps": trainer.state.global_step,
        "epochs": steps[-1]["epoch"],
        "prompts_seen": steps[-1]["prompts_seen"],
        "tokens": int(trainer.state.num_input_tokens_seen),
        "reward_first": steps[0]["reward"],
        "reward_last": steps[-1]["reward"],
        "seconds": round(seconds, 2),
        **{name: round(sum(row[name] for row in steps), 2) for name in history.SECONDS},
        "peak_memory_gib": round(peak_memory_gib(), 3),
        "effective_config": effective_config(trainer),
    }


def _subset(rows: list[dict[str, Any]], train: Train) -> list[dict[str, Any]]:
    if train.prompts is not None and train.prompts > len(rows):
        raise PipelineError(
            f"train.prompts = {train.prompts}: the train split has {len(rows)} rows; give at most that, or null for all"
        )
    return rows[: train.prompts]


def _config(variant: str, params: Params, scratch: Path) -> GRPOConfig:
    """TRL's configuration: the section `train` under TRL's own names, and what follows from the machine."""
    own = {"prompts", "sample_steps", "sample_prompts", "warmup_ratio"}
    length = params.variants[variant]
    return GRPOConfig(
        **params.train.model_dump(exclude=own),
        warmup_steps=params.train.warmup_ratio,  # below 1 transformers reads it as a share
        max_steps=length.max_steps or -1,
        num_train_epochs=length.epochs or 1,
        reward_weights=list(params.variant_rewards(variant).weights.values()),
        output_dir=str(scratch),
        save_total_limit=2,
        seed=params.seed,
        bf16=torch.cuda.is_available(),
        gradient_checkpointing=False,
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
    )


def effective_config(trainer: Trainer) -> dict[str, Any]:
    """What TRL really runs with, read back from the trainer."""
    args = trainer.args.to_dict()
    return {key: args[key] for key in EFFECTIVE} | {
        "rewards": trainer.reward_func_names,
        "max_steps": trainer.state.max_steps,
        "trainable_parameters": sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
        "parameters": trainer.model.num_parameters(),
        "dtype": str(trainer.model.dtype).removeprefix("torch."),
        "device": trainer.model.device.type,
        "threads": torch.get_num_threads(),
    }


def peak_memory_gib() -> float:
    """The peak of the GPU's reserved memory where there is one, else of this process, in GiB."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_reserved() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


class Samples(TrainerCallback):
    """Keeps the completions of a few prompts every `every` steps, beside each checkpoint too."""

    def __init__(self, trainer: Trainer, every: int, prompts: int, rewards: list[str]):
        self.trainer, self.every, self.prompts, self.names = trainer, every, prompts, rewards
        self.rows: list[dict[str, Any]] = []

    def on_train_begin(self, args, state, control, **kwargs):
        if state.global_step:
            self.rows = read_jsonl(_kept(args, state))

    def on_save(self, args, state, control, **kwargs):
        write_jsonl(_kept(args, state), self.rows)

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


def _kept(args, state) -> Path:
    return Path(args.output_dir) / f"checkpoint-{state.global_step}" / "samples.jsonl"


class Curves(TrainerCallback):
    """Sends the rows of history to MLflow while the run goes on."""

    def __init__(self, run_id: str, params: Params, rewards: list[str]):
        self.run_id, self.train, self.rewards = run_id, params.train, rewards
        self.sent = 0

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step - self.sent > FLUSH_STEPS:
            self._send(state)

    def on_train_end(self, args, state, control, **kwargs):
        self._send(state)

    def _send(self, state) -> None:
        rows = history.rows(state.log_history, self.train, self.rewards)
        tracking.log_curves(self.run_id, rows[self.sent :])
        self.sent = len(rows)
