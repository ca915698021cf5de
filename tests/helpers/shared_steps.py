"""Trains each method for a few steps on completions that depend on their prompts alone, in this rank of one or several.

    python shared_steps.py RESULTS OUT [--shard]

Tests call `trained_by`, which runs this script in each rank, and compare what was trained by `assert_same_steps`.

RESULTS is the folder of the stages before training.  With `--shard` the weights are divided between the ranks.  Rank 0
writes the losses, the norms of the gradients and the weights of each method into OUT, and each rank the batches of the
last generation.
"""

import json
import os
import re
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from gsm8k_grpo.config.params import load
from gsm8k_grpo.files import read_jsonl
from gsm8k_grpo.models.loading import Source
from gsm8k_grpo.runtime import ranks
from gsm8k_grpo.stages.train.methods import method_of
from project import ROOT
from safetensors.torch import load_file, save_file
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
    # A prompt a rank, and some have equal rewards, so a rank of two may have nothing to compute.
    "grpo-flat": {"train.per_device_train_batch_size": 16, "train.beta": 0.0},
    "grpo-padded": {"train.share_prompts": False, "train.steps_per_generation": 1, "train.loss_type": "grpo"},
    "rloo": {"method": "rloo"},
    "online_dpo": {"method": "online_dpo"},
    "ppo": {"method": "ppo"},
    "sft": {"method": "sft"},
}

# A mean over the tokens of each batch depends on what a batch is, and the sign of a margin of zero is rounding.
DIFFERENT = {"grpo-batches": {"kl", "entropy"}, "online_dpo": {"preferred_share"}}
# The margin of a policy that is still its reference is zero, but for the rounding of sums over the tokens of a pair.
NO_MARGIN = 1e-5


def trained_by(count: int, results: Path, out: Path, *options: str) -> Path:
    """The folder with what so many ranks write that each run this script."""
    out.mkdir()
    code = {"PYTHONPATH": f"{ROOT / 'workflow'}:{Path(__file__).parent}", "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, results, out, *options], cwd=out, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, env=os.environ | code | own,
        )
        for own in (ranks._environments(count) if count > 1 else [{}])
    ]  # fmt: skip
    said = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * count, said
    return out


def assert_same_steps(name: str, one_folder: Path, other_folder: Path, rel: float, weights: float) -> None:
    """A run of RUNS has the same four log entries in both folders, and the same weights at its end.

    Args:
        rel: the largest relative difference of a figure of the log.
        weights: the largest difference of a weight.
    """
    one, other = (json.loads((folder / f"{name}.json").read_text()) for folder in (one_folder, other_folder))
    assert len(one) == 4
    of_one, of_other = _logged(one, name), _logged(other, name)
    assert [row.pop("margin", 0.0) for row in (of_one[0], of_other[0])] == pytest.approx([0.0, 0.0], abs=NO_MARGIN)
    for expected, found in zip(of_one, of_other, strict=True):
        assert found == pytest.approx(expected, rel=rel, abs=1e-6)
    assert max(entry["grad_norm"] for entry in one) > 0.01
    expected_weights, found_weights = (
        load_file(folder / f"{name}.safetensors") for folder in (one_folder, other_folder)
    )
    for key, value in expected_weights.items():
        assert found_weights[key].numpy() == pytest.approx(value.numpy(), rel=0, abs=weights), key


def _logged(log: list[dict[str, float]], name: str) -> list[dict[str, float]]:
    """The rows of a log, without measured times and what else is different."""
    left_out = DIFFERENT.get(name, set())
    kept = re.compile(r"(?!.*(second|time))")
    return [{key: row[key] for key in row if kept.match(key) and key not in left_out} for row in log]


def completion(prompt: list[int], copy: int) -> list[int]:
    """One to nine tokens."""
    number = zlib.crc32(bytes(str((prompt, copy)), "ascii"))
    return [30 + (number >> step) % 150 for step in range(1 + number % 9)]


def reward(completion_ids: list[list[int]], **unused: Any) -> list[float]:
    """A number that depends on the completion, and is the same for some of a group."""
    return [float(sum(ids) % 4) for ids in completion_ids]


def reward_of_some(prompts: list[Any], completion_ids: list[list[int]], **unused: Any) -> list[float]:
    """As `reward`, but the same number for all completions of about half of the prompts."""
    flat = (zlib.crc32(bytes(str(prompt), "ascii")) % 2 for prompt in prompts)
    return [0.0 if same else value for same, value in zip(flat, reward(completion_ids), strict=True)]


def of_groups(batch: dict[str, torch.Tensor], size: int) -> list[tuple[list[int], int]]:
    """The tokens of each prompt of a batch, and how many it has together with its completions."""
    prompts, completions = (batch[f"{kind}_mask"].sum(1).view(-1, size) for kind in ("prompt", "completion"))
    tokens = (prompts[:, 0] + completions.sum(1)).tolist()
    of_prompts = zip(batch["prompt_ids"][::size], batch["prompt_mask"][::size].bool(), strict=True)
    return [(ids[mask].tolist(), count) for (ids, mask), count in zip(of_prompts, tokens, strict=True)]


def train(name: str, results: Path, out: Path, sharded: bool) -> None:
    overrides = COMMON | RUNS[name] | {"gpus": ranks.count(), "shard_weights": sharded}
    params = load(ROOT / "params.yaml", overrides)
    set_seed(params.seed)
    method = method_of(params.method)
    rows = read_jsonl(results / "extract/train.jsonl")[:32]
    folder = out / f"checkpoints-{name}"
    trainer: Any = method.build_trainer(rows, "short", Source(str(results / "base/model")), params, folder)
    if method.name != "sft":
        trainer.reward_funcs = [reward_of_some if name == "grpo-flat" else reward] * len(trainer.reward_funcs)

        def generate(prompts: list[list[int]], *unused: Any) -> tuple[list[list[int]], None]:
            return [completion(ids, index % trainer.num_generations) for index, ids in enumerate(prompts)], None

        trainer._generate_single_turn = generate
    trainer.train_from(None)
    if name == "grpo":
        batches = [of_groups(batch, trainer.num_generations) for batch in trainer._buffered_inputs]
        (out / f"batches-{ranks.rank()}.json").write_text(json.dumps(batches))
    weights = trainer.whole_weights() or trainer.model.state_dict()
    if ranks.rank() == 0:
        logged = [entry for entry in trainer.state.log_history if "grad_norm" in entry]
        (out / f"{name}.json").write_text(json.dumps(logged))
        save_file(
            {key: value.contiguous() for key, value in weights.items() if key != "lm_head.weight"},
            out / f"{name}.safetensors",
        )


def main() -> None:
    torch.set_num_threads(1)
    results, out = map(Path, sys.argv[1:3])
    for name in RUNS:
        train(name, results, out, sharded="--shard" in sys.argv)


if __name__ == "__main__":
    main()
