"""Trains each method for a few steps on completions that depend on their prompts alone, in this rank of one or several.

    python shared_steps.py RESULTS OUT

RESULTS is the folder of the stages before training.  Rank 0 writes the losses, the norms of the gradients and the
weights of each method into OUT, and each rank the batches of the last generation.
"""

import json
import sys
import zlib
from pathlib import Path
from typing import Any

import torch
from gsm8k_grpo.config.params import load
from gsm8k_grpo.files import read_jsonl
from gsm8k_grpo.models.loading import Source
from gsm8k_grpo.runtime import ranks
from gsm8k_grpo.stages.train.methods import method_of
from project import ROOT
from safetensors.torch import save_file
from small_run import FEW
from transformers import set_seed

# 4 prompts a step; a generation serves two steps.
COMMON = FEW | {
    "train.per_device_train_batch_size": 32, "train.num_generations": 8, "train.steps_per_generation": 2,
    "train.share_prompts": True, "train.save_steps": 100, "keep_checkpoints": [], "variants.short.max_steps": 4,
    "train.beta": 0.05, "ppo.kl_coef": 0.05, "sft.per_device_train_batch_size": 4,
}  # fmt: skip
BATCHES = {
    "train.per_device_train_batch_size": 16, "train.gradient_accumulation_steps": 2, "train.steps_per_generation": 4,
}  # fmt: skip
RUNS: dict[str, dict[str, Any]] = {
    "grpo": {},
    "grpo-batches": BATCHES,
    "grpo-padded": {"train.share_prompts": False, "train.steps_per_generation": 1, "train.loss_type": "grpo"},
    "rloo": {"method": "rloo"},
    "online_dpo": {"method": "online_dpo"},
    "ppo": {"method": "ppo"},
    "sft": {"method": "sft"},
}


def completion(prompt: list[int], copy: int) -> list[int]:
    """One to nine tokens."""
    number = zlib.crc32(bytes(str((prompt, copy)), "ascii"))
    return [30 + (number >> step) % 150 for step in range(1 + number % 9)]


def reward(completion_ids: list[list[int]], **unused: Any) -> list[float]:
    """A number that depends on the completion, and is the same for some of a group."""
    return [float(sum(ids) % 4) for ids in completion_ids]


def of_groups(batch: dict[str, torch.Tensor], size: int) -> list[tuple[list[int], int]]:
    """The tokens of each prompt of a batch, and how many it has together with its completions."""
    prompts, completions = (batch[f"{kind}_mask"].sum(1).view(-1, size) for kind in ("prompt", "completion"))
    tokens = (prompts[:, 0] + completions.sum(1)).tolist()
    of_prompts = zip(batch["prompt_ids"][::size], batch["prompt_mask"][::size].bool(), strict=True)
    return [(ids[mask].tolist(), count) for (ids, mask), count in zip(of_prompts, tokens, strict=True)]


def train(name: str, results: Path, out: Path) -> None:
    overrides = COMMON | RUNS[name] | {"gpus": ranks.count()}
    params = load(ROOT / "params.yaml", overrides)
    set_seed(params.seed)
    method = method_of(params.method)
    rows = read_jsonl(results / "extract/train.jsonl")[:32]
    folder = out / f"checkpoints-{name}"
    trainer: Any = method.build_trainer(rows, "short", Source(str(results / "base/model")), params, folder)
    if method.name != "sft":
        trainer.reward_funcs = [reward] * len(trainer.reward_funcs)

        def generate(prompts: list[list[int]], *unused: Any) -> tuple[list[list[int]], None]:
            return [completion(ids, index % trainer.num_generations) for index, ids in enumerate(prompts)], None

        trainer._generate_single_turn = generate
    trainer.train_from(None)
    if name == "grpo":
        batches = [of_groups(batch, trainer.num_generations) for batch in trainer._buffered_inputs]
        (out / f"batches-{ranks.rank()}.json").write_text(json.dumps(batches))
    if ranks.rank() == 0:
        logged = [entry for entry in trainer.state.log_history if "grad_norm" in entry]
        (out / f"{name}.json").write_text(json.dumps(logged))
        save_file(
            {key: value.contiguous() for key, value in trainer.model.state_dict().items() if key != "lm_head.weight"},
            out / f"{name}.safetensors",
        )


def main() -> None:
    torch.set_num_threads(1)
    results, out = map(Path, sys.argv[1:])
    for name in RUNS:
        train(name, results, out)


if __name__ == "__main__":
    main()
