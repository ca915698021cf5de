"""Packed batches are right on an architecture, or refused before training."""

from functools import partial

import pytest
import torch
from datasets import Dataset
from gsm8k_grpo.config.sections import Lora
from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.models import loading, logprobs
from gsm8k_grpo.models.attention import UnknownAttentionError
from gsm8k_grpo.stages.train.grpo import agreement, packing
from gsm8k_grpo.stages.train.grpo.packed import PackedGRPOTrainer
from gsm8k_grpo.stages.train.grpo.trainer import ResumableGRPOTrainer
from packed_batches import varlen
from packed_update import gradients
from tiny_models import ACCEPTED, LLAMA, REFUSED, build, tokenizer
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
    """Two groups of two; their prompts are equally long, so the padded trainer needs no positions."""
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


def llama(**keys):
    return build("llama", **LLAMA | keys)


def test_the_check_changes_no_weight_no_mode_and_no_random_state(tmp_path):
    packed = packed_trainer(llama(attention_dropout=0.5), tmp_path)
    packed.model.model.layers[0].train()
    before = {name: weight.clone() for name, weight in packed.model.state_dict().items()}
    modes = [module.training for module in packed.model.modules()]
    state = torch.get_rng_state()
    agreement.require(packed)
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in packed.model.modules()] == modes
    assert all(torch.equal(weight, before[name]) for name, weight in packed.model.state_dict().items())
    assert all(weight.grad is None for weight in packed.model.parameters())


def test_adapters_are_checked_with_their_model_and_have_the_same_gradient(tmp_path):
    """Also one on the head, which is not a matrix then."""
    model = loading.adapt(llama(), Lora(rank=4, alpha=8, targets=["q_proj", "up_proj", "lm_head"]))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight, std=0.1)
    agreement.require(packed_trainer(model, tmp_path))
    require_equal_gradients(model, tmp_path)


@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["cohere", "granite", "gemma3 with a soft cap"])
def test_log_probabilities_of_other_logits_are_refused(name, bf16, tmp_path, monkeypatch):
    kind, keys = ACCEPTED[name]
    packed = packed_trainer(build(kind, **keys), tmp_path, bf16=bf16)
    agreement.require(packed)
    monkeypatch.setattr(logprobs.Logits, "of", lambda config: logprobs.Logits())
    with pytest.raises(PipelineError, match=r"are .* from those of padded batches on average"):
        agreement.require(packed)


@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["mistral with a window", "gemma3"])
def test_a_window_that_is_not_kept_is_refused(name, bf16, tmp_path, monkeypatch):
    kind, keys = ACCEPTED[name]
    packed = packed_trainer(build(kind, **keys), tmp_path, bf16=bf16)
    agreement.require(packed)
    mask = packing.Packed.mask
    monkeypatch.setattr(packing.Packed, "mask", lambda self, config, window: mask(self, config, None))
    with pytest.raises(PipelineError, match=r"are .* from those of padded batches on average"):
        agreement.require(packed)


def test_recurrent_layers_are_refused_in_16_bit_too(tmp_path):
    kind, keys, _ = REFUSED["falcon_h1"]
    with pytest.raises(PipelineError, match="recurrent"):
        agreement.require(packed_trainer(build(kind, **keys), tmp_path, bf16=True))


# Packed attention as on a GPU; a function that runs on the CPU replaces the kernel


@pytest.mark.parametrize("name", ["llama", "granite", "mistral with a window", "gemma3", "qwen2 with a window", "gpt2"])
def test_the_attention_of_a_gpu_has_the_gradient_of_padded_batches(name, tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "varlen_attn", varlen)
    kind, keys = ACCEPTED[name]
    model = build(kind, packing.ATTENTION, **keys)
    agreement.require(packed_trainer(model, tmp_path))
    require_equal_gradients(model, tmp_path)


@pytest.mark.parametrize(
    ("kind", "keys", "reason"),
    [
        (*ACCEPTED["gemma2"], "softcap, which our attention would ignore"),
        ("llama", LLAMA | {"attention_dropout": 0.1}, "dropout 0.1"),
        (*ACCEPTED["stablelm"], "other completions"),  # its decoder does not pass the sequences on
    ],
    ids=["soft cap", "dropout", "no sequences"],
)
def test_the_attention_of_a_gpu_refuses_what_it_would_drop(kind, keys, reason, tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "varlen_attn", varlen)
    packed = packed_trainer(build(kind, packing.ATTENTION, **keys), tmp_path)
    with pytest.raises(PipelineError, match=reason):
        agreement.require(packed)


STATES = torch.zeros(1, 2, 3, 8)
SEQUENCES = {"keys": torch.arange(3), "query_starts": None, "key_starts": None, "width": 128}


@pytest.mark.parametrize("sequences", [{}, SEQUENCES], ids=["padded", "packed"])
@pytest.mark.parametrize("argument", ["softcap", "s_aux", "position_bias", "indices"])
def test_an_unknown_argument_of_the_attention_is_refused(argument, sequences):
    with pytest.raises(UnknownAttentionError, match=f"Module gives the attention {argument}"):
        packing.attend(nn.Module(), STATES, STATES, STATES, None, **{argument: torch.ones(1)}, **sequences)


@pytest.mark.parametrize("mask", [None, torch.zeros(1, 1, 3, 3)], ids=["none", "of the model"])
def test_a_mask_that_is_not_that_of_a_packed_batch_is_refused(mask):
    with pytest.raises(UnknownAttentionError, match="a mask of its own"):
        packing.attend(nn.Module(), STATES, STATES, STATES, mask, **SEQUENCES)
