"""The update on packed batches: TRL's gradient, without computing what has none."""

import pytest
import torch
from datasets import Dataset
from gsm8k_grpo.config.params import load
from gsm8k_grpo.config.sections import Lora
from gsm8k_grpo.files import read_jsonl
from gsm8k_grpo.models import loading
from gsm8k_grpo.stages.train.grpo.packed import PackedGRPOTrainer
from gsm8k_grpo.stages.train.grpo.trainer import ResumableGRPOTrainer
from packed_update import gradients, tokens_per_forward
from project import ROOT
from torch import Tensor
from trl import GRPOConfig

# Two groups of two: prompts of 2 and 3 tokens, completions of 2, 1, 3 and 2, none of which is an end token.
PROMPTS = torch.tensor([[9, 11, 12], [9, 11, 12], [13, 14, 15], [13, 14, 15]])
PROMPT_MASK = torch.tensor([[0, 1, 1], [0, 1, 1], [1, 1, 1], [1, 1, 1]])
COMPLETIONS = torch.tensor([[21, 22, 9], [23, 9, 9], [24, 25, 26], [27, 28, 9]])
COMPLETION_MASK = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1], [1, 1, 0]])
VARIED, SECOND_VARIED, EQUAL = [0.7, -0.7, 1.2, -1.2], [0.0, 0.0, 1.2, -1.2], [0.0, 0.0, 0.0, 0.0]
LORA = Lora(rank=4, alpha=8, targets=["q_proj", "up_proj", "down_proj"])


@pytest.fixture(params=[None, LORA], ids=["all weights", "adapters"])
def trainers(prepared, tmp_path, request) -> tuple[ResumableGRPOTrainer, PackedGRPOTrainer]:
    """TRL's update and the packed one, of the same model."""
    base = loading.Source(str(prepared / "results/base/model"))
    network, tokenizer = loading.load(base, load(ROOT / "params.yaml"))
    if request.param:
        network = loading.adapt(network, request.param)
        for name, weight in network.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.02)
    rows = read_jsonl(prepared / "results/extract/train.jsonl")[:4]
    args = GRPOConfig(
        output_dir=str(tmp_path), use_cpu=True, bf16=False, max_steps=1, per_device_train_batch_size=4,
        num_generations=2, max_completion_length=3, loss_type="dapo", report_to="none", gradient_checkpointing=False,
    )  # fmt: skip
    common = {
        "model": network, "processing_class": tokenizer, "reward_funcs": lambda completions, **unused: [0.0, 1.0],
        "args": args, "train_dataset": Dataset.from_list([{"prompt": row["prompt"]} for row in rows]),
    }  # fmt: skip
    return ResumableGRPOTrainer(**common), PackedGRPOTrainer(**common, compiled=False, sampled=False)


def batch(advantages: list[float]) -> dict[str, Tensor]:
    torch.manual_seed(3)
    return {
        "prompt_ids": PROMPTS, "prompt_mask": PROMPT_MASK, "completion_ids": COMPLETIONS,
        "completion_mask": COMPLETION_MASK, "advantages": torch.tensor(advantages),
        "old_per_token_logps": -5 * torch.rand(4, 3), "num_items_in_batch": COMPLETION_MASK.sum(),
    }  # fmt: skip


@pytest.mark.parametrize("advantages", [VARIED, SECOND_VARIED, EQUAL], ids=["varied", "second varied", "equal"])
def test_the_gradient_is_that_of_trl(trainers, advantages):
    of_trl, packed = (gradients(trainer, batch(advantages)) for trainer in trainers)
    assert of_trl.keys() == packed.keys()
    for name, gradient in of_trl.items():
        torch.testing.assert_close(packed[name], gradient, rtol=1e-3, atol=1e-6)
    assert any(gradient.any() for gradient in of_trl.values()) == (advantages != EQUAL)


def test_a_group_without_advantage_is_not_computed(trainers):
    _, packed = trainers
    assert tokens_per_forward(packed, batch(VARIED)) == [2 + 3 + 3 + 5]
    assert tokens_per_forward(packed, batch(SECOND_VARIED)) == [3 + 5]
    assert tokens_per_forward(packed, batch(EQUAL)) == []


def test_a_weight_that_nothing_is_computed_of_has_a_gradient_of_zero_rather_than_none(trainers):
    """An optimizer moves it by its momentum, as it does where the gradient was computed."""
    _, packed = trainers
    found = gradients(packed, batch(EQUAL))
    assert all(gradient is not None and not gradient.any() for gradient in found.values())


def test_all_is_computed_where_the_kl_term_has_a_gradient(trainers):
    _, packed = trainers
    packed.beta = 0.1
    assert tokens_per_forward(packed, batch(EQUAL) | {"ref_per_token_logps": torch.zeros(4, 3)}) == [2 + 3 + 3 + 5]


def test_all_is_computed_where_the_old_probabilities_are_those_of_the_update(trainers):
    _, packed = trainers
    assert tokens_per_forward(packed, batch(EQUAL) | {"old_per_token_logps": None}) == [2 + 3 + 3 + 5]


@pytest.mark.parametrize("advantages", [VARIED, SECOND_VARIED, EQUAL], ids=["varied", "second varied", "equal"])
def test_the_entropy_is_what_the_probabilities_of_the_sampled_tokens_say(trainers, advantages):
    _, packed = trainers
    inputs = batch(advantages)
    gradients(packed, inputs)
    sampled = inputs["old_per_token_logps"][COMPLETION_MASK.bool()]
    assert packed._metrics["train"]["entropy"] == [pytest.approx(-sampled.mean().item())]
