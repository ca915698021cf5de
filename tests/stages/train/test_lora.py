"""Training adapters with the real stages: what is trained, saved and evaluated."""

import shutil
from typing import Any

import pandas as pd
import pytest
import torch
from gsm8k_grpo.config.params import load
from gsm8k_grpo.config.sections import Lora
from gsm8k_grpo.files import read_json, read_jsonl
from gsm8k_grpo.models import loading
from gsm8k_grpo.stages.train.grpo import building
from gsm8k_grpo.stages.train.grpo.rollouts import merged_weights
from gsm8k_grpo.stages.train.grpo.trainer import ResumableGRPOTrainer
from project import ROOT, TRANSFORMERS
from safetensors.torch import load_file
from small_run import ADAPTERS, TRAIN, history, run, start, wait_for, whole

SETTINGS = {"lora": ADAPTERS, "train__share_prompts": "true", "train__learning_rate": "1e-3"}


@pytest.fixture(scope="module")
def trained(prepared, tmp_path_factory):
    folder = shutil.copytree(prepared, tmp_path_factory.mktemp("lora") / "p")
    return run(folder, TRAIN, "evaluate --model short", **SETTINGS)


def test_adapters_alone_are_trained_and_kept(trained):
    weights = load_file(trained / "results/train/short/model/adapter_model.safetensors")
    assert not (trained / "results/train/short/model/model.safetensors").exists()
    effective = read_json(trained / "results/train/short/metrics.json")["effective_config"]
    # two layers of width 128 and 384: a matrix into the rank, and one out of it
    assert effective["trainable_parameters"] == 2 * 4 * ((128 + 128) + 2 * (128 + 384))
    assert effective["trainable_parameters"] == sum(tensor.numel() for tensor in weights.values())
    assert all(tensor.dtype == torch.float32 for tensor in weights.values())
    assert all(tensor.any() for tensor in weights.values())  # the matrices B start as zeros, so each has had a gradient


def test_every_step_has_its_row_and_its_gradient(trained):
    rows = pd.read_csv(trained / "results/train/short/history.csv")
    assert list(rows["step"]) == list(range(1, 13))
    assert (rows["grad_norm"] > 0).any()
    assert rows["entropy"].between(0, 10).all()


def test_the_base_model_and_its_adapter_answer(trained):
    assert len(read_jsonl(trained / "results/evaluate/short/answers.jsonl")) == 10
    curve = read_jsonl(trained / "results/evaluate/short/checkpoints.jsonl")
    assert [row["step"] for row in curve] == [9, 12]


def test_merged_weights_answer_as_base_and_adapter_do(trained, tmp_path):
    params = load(ROOT / "params.yaml", {"threads": 1})
    folder = trained / "results/train/short/model"
    adapted, tokenizer = loading.load(loading.source(str(trained / "results/base/model"), folder), params)
    plain, _ = loading.load(loading.Source(str(trained / "results/base/model")), params)
    ids = tokenizer("A farmer has 12 hens.", return_tensors="pt")["input_ids"]
    before = plain(ids).logits
    plain.load_state_dict(dict(merged_weights(adapted)), strict=False)  # the head is the embedding
    torch.testing.assert_close(plain(ids).logits, adapted(ids).logits, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(before, plain(ids).logits, atol=1e-3)


def test_merging_leaves_the_trained_model_as_it_is(trained):
    params = load(ROOT / "params.yaml", {"threads": 1})
    model, _ = loading.load(loading.Source(str(trained / "results/base/model")), params)
    adapted = loading.adapt(model, Lora(rank=4, alpha=8, targets=["q_proj"]))
    before = {name: value.clone() for name, value in adapted.state_dict().items()}
    list(merged_weights(adapted))
    assert all(torch.equal(before[name], value) for name, value in adapted.state_dict().items())


def trainer_in_16_bit(prepared, folder, lora: dict[str, Any] | None) -> ResumableGRPOTrainer:
    """The trainer of the recipe rtx3080, with adapters or all weights, on a processor."""
    settings = TRANSFORMERS | {
        "precision": "bfloat16", "lora": lora, "threads": 1, "train.per_device_train_batch_size": 4,
        "train.num_generations": 4, "train.steps_per_generation": 1, "train.max_completion_length": 8,
        "train.beta": 0.04, "train.learning_rate": 1e-3, "train.sample_prompts": 1, "keep_checkpoints": [],
        "variants.short.max_steps": 2, "variants.short.rewards": {"set": "control", "weights": {"random": 1.0}},
    }  # fmt: skip
    rows = read_jsonl(prepared / "results/extract/train.jsonl")[:4]
    start = loading.Source(str(prepared / "results/base/model"))
    return building.build_trainer(rows, "short", start, load(ROOT / "params.yaml", settings), folder)


def test_transformers_generates_with_adapters_in_32_bit_on_weights_in_16(prepared, tmp_path):
    trainer = trainer_in_16_bit(prepared, tmp_path, {"rank": 4, "alpha": 8, "targets": ["q_proj", "up_proj"]})
    trainer.train_from(None)
    trained = {name: part for name, part in trainer.model.named_parameters() if part.requires_grad}
    assert {part.dtype for part in trained.values()} == {torch.float32}
    assert all(part.any() for part in trained.values())
    assert all(row["grad_norm"] > 0 for row in trainer.state.log_history if "grad_norm" in row)


def test_the_reference_of_the_kl_term_takes_no_more_memory_than_the_weights(prepared, tmp_path):
    trainer = trainer_in_16_bit(prepared, tmp_path, lora=None)
    weights, reference = ({part.dtype for part in one.parameters()} for one in (trainer.model, trainer.ref_model))
    assert weights == reference == {torch.bfloat16}
    trainer.train_from(None)
    assert trainer.state.log_history[0]["kl"] < 1e-3  # of the weights to themselves, as 16 bit round


@pytest.mark.parametrize("lora", [ADAPTERS, "null"])
def test_the_kl_term_is_to_the_model_that_training_began_with(prepared, tmp_path, lora):
    """The reference is the model without its adapters, or, where all weights are trained, a copy of it."""
    settings = {"lora": lora, "train__share_prompts": "true", "train__beta": "0.01", "train__learning_rate": "1e-3"}
    folder = run(shutil.copytree(prepared, tmp_path / "p"), TRAIN, **settings)
    kl = pd.read_csv(folder / "results/train/short/history.csv")["kl"]
    assert kl[0] < 1e-6
    assert kl[8:].min() > 1e-6


def test_a_killed_run_of_adapters_resumes_to_the_same_bytes(prepared, tmp_path):
    settings = SETTINGS | {"train__beta": "0.01"}
    whole_run, killed = (shutil.copytree(prepared, tmp_path / name) for name in ("whole", "killed"))
    run(whole_run, TRAIN, **settings)
    process = start(killed, TRAIN, **settings)
    wait_for(whole(killed, 8), process)
    process.kill()
    process.communicate()
    run(killed, TRAIN, **settings)
    weights = "results/train/short/model/adapter_model.safetensors"
    assert (whole_run / weights).read_bytes() == (killed / weights).read_bytes()
    assert history(whole_run) == history(killed)
    assert not (killed / "results/train/short/model/ref").exists()
    assert not (killed / "results/train/short/checkpoints/9/ref").exists()
