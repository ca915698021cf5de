"""Packed batches are right on an architecture, or refused before training."""

import re
from functools import partial

import pytest
import torch
from datasets import Dataset
from gsm8k_grpo.config.sections import Lora
from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.models import loading, logprobs
from gsm8k_grpo.stages.train.grpo import agreement, packing
from gsm8k_grpo.stages.train.grpo.packed import PackedGRPOTrainer
from gsm8k_grpo.stages.train.grpo.trainer import ResumableGRPOTrainer
from packed_update import gradients
from tiny_models import ACCEPTED, LLAMA, REFUSED, WINDOW, build, tokenizer
from torch import Tensor, nn
from trl import GRPOConfig

QUESTIONS = [f"Tom has {number} apples and buys {number + 3} more. How many has he?" for number in range(2, 6)]
GROUP, LENGTH = 2, 24
NORM_APART = 1e-3  # relative difference of the two gradients; in 32 bit it is below 1e-4


def trainer(kind: type[ResumableGRPOTrainer], model, folder, **options) -> ResumableGRPOTrainer:
    common = {
        "output_dir": str(folder), "use_cpu": True, "bf16": False, "max_steps": 1, "per_device_train_batch_size": 4,
        "num_generations": GROUP, "max_completion_length": LENGTH, "loss_type": "dapo", "report_to": "none",
        "gradient_checkpointing": False, "temperature": 0.9,
    }  # fmt: skip
    rows = [{"prompt": [{"role": "user", "content": question}]} for question in QUESTIONS]
    return kind(
        model=model, processing_class=tokenizer(), args=GRPOConfig(**common | options),
        reward_funcs=lambda completions, **unused: [float(index % 2) for index in range(len(completions))],
        train_dataset=Dataset.from_list(rows),
    )  # fmt: skip


packed_trainer = partial(trainer, partial(PackedGRPOTrainer, compiled=False, sampled=False))
padded_trainer = partial(trainer, ResumableGRPOTrainer)


def batch() -> dict[str, Tensor]:
    """Two groups of two; their prompts are equally long, because TRL's padding shifts learned positions."""
    tokens = torch.Generator().manual_seed(1)
    prompts = torch.randint(1, 250, (2, 40), generator=tokens).repeat_interleave(GROUP, 0)
    completions = torch.randint(1, 250, (2 * GROUP, LENGTH), generator=tokens)
    ended = torch.ones_like(completions)
    ended[1, 15:], ended[2, 20:] = 0, 0
    return {
        "prompt_ids": prompts, "prompt_mask": torch.ones_like(prompts), "completion_ids": completions,
        "completion_mask": ended, "advantages": torch.tensor([0.7, -0.7, 1.2, -1.2]),
        "old_per_token_logps": -8 * torch.rand(2 * GROUP, LENGTH, generator=tokens), "num_items_in_batch": ended.sum(),
    }  # fmt: skip


def flat(of: dict[str, Tensor | None]) -> Tensor:
    """The gradient as one vector; a weight that is not used has none."""
    return torch.cat([gradient.flatten() for gradient in of.values() if gradient is not None])


def require_equal_gradients(model, folder) -> None:
    inputs = batch()
    of_trl = flat(gradients(padded_trainer(model, folder), inputs))
    packed = flat(gradients(packed_trainer(model, folder), inputs))
    assert of_trl.norm() > 0.01
    assert packed.norm().item() == pytest.approx(of_trl.norm().item(), rel=NORM_APART)
    assert (packed - of_trl).norm() < NORM_APART * of_trl.norm()


@pytest.mark.parametrize("name", ACCEPTED)
def test_an_accepted_architecture_has_the_gradient_of_padded_batches(name, tmp_path):
    kind, keys = ACCEPTED[name]
    model = build(kind, **keys)
    agreement.require(packed_trainer(model, tmp_path))
    require_equal_gradients(model, tmp_path)


@pytest.mark.parametrize("name", REFUSED)
def test_any_other_architecture_is_refused_by_name(name, tmp_path):
    kind, keys, reason = REFUSED[name]
    model = build(kind, **keys)
    message = rf"^train\.share_prompts = true: {type(model).__name__} .*{reason}.*; set share_prompts: false$"
    with pytest.raises(PipelineError, match=message):
        agreement.require(packed_trainer(model, tmp_path))
