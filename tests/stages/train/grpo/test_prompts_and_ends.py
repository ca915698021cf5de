"""Training renders prompts as evaluation does, and its completions end at every end token of the model."""

import json
from pathlib import Path

import pytest
import torch
from chats import chat
from families import model_of
from gsm8k_grpo.config.params import Params, load
from gsm8k_grpo.files import read_json
from gsm8k_grpo.models.engine import tokenize_prompts
from gsm8k_grpo.models.loading import Source, load_tokenizer
from gsm8k_grpo.stages.train import sft
from gsm8k_grpo.stages.train.grpo import building
from project import ROOT
from tiny_models import ACCEPTED, build, tokenizer

ROWS = [
    {"id": f"train-{n}", "prompt": chat(f"What is {n} and 1?", "english", False), "solution": f"#### {n + 1}",
     "answer": str(n + 1)}
    for n in range(4)
]  # fmt: skip
LENGTH = 16


def configured(model: Path, **overrides) -> Params:
    few = {
        "model": str(model), "threads": 1, "train.per_device_train_batch_size": 16, "train.steps_per_generation": 2,
        "train.max_completion_length": LENGTH, "train.sample_prompts": 1, "train.prompts": 4,
        "variants.short.max_steps": 2, "keep_checkpoints": [],
    }  # fmt: skip
    return load(ROOT / "params.yaml", few | overrides)


@pytest.fixture(scope="module")
def gemma(tmp_path_factory) -> Path:
    """A model whose generation_config.json names a third of its tokens as ends, so that most completions have one."""
    folder = model_of("gemma2", tmp_path_factory.mktemp("gemma"))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, *range(10, 90)]}))
    return folder


@pytest.fixture(scope="module")
def trained(gemma, tmp_path_factory):
    """The trainer after two steps on one generation, and the token ids of its completions."""
    folder = tmp_path_factory.mktemp("run")
    trainer = building.build_trainer(ROWS, "short", Source(str(gemma)), configured(gemma), folder)
    completions: list[list[int]] = []

    def reward(completion_ids: list[list[int]], **unused) -> list[float]:
        completions.extend(completion_ids)
        return [float(len(ids)) for ids in completion_ids]

    trainer.reward_funcs[0] = reward
    trainer.train_from(None)
    return trainer, completions


def test_a_completion_of_training_ends_at_the_first_end_token(trained):
    trainer, completions = trained
    assert len(completions) == 32
    ends = {0, 1, 4, *range(10, 90)}
    assert not any(ends.intersection(ids[:-1]) for ids in completions)
    assert all(ids[-1] in ends or len(ids) == LENGTH for ids in completions)
    last = {ids[-1] for ids in completions if len(ids) < LENGTH}
    assert last - {trainer.processing_class.eos_token_id, trainer.processing_class.pad_token_id}


def test_only_a_completion_without_an_end_token_counts_as_cut_off(trained):
    trainer, completions = trained
    cut_off = sum(ids[-1] not in {0, 1, 4, *range(10, 90)} for ids in completions) / len(completions)
    assert trainer.state.log_history[0]["completions/clipped_ratio"] == pytest.approx(cut_off)


def test_a_trained_model_names_every_end_token(trained, tmp_path):
    trainer, _ = trained
    trainer.save_model(str(tmp_path))
    assert read_json(tmp_path / "generation_config.json")["eos_token_id"] == [1, 4, *range(10, 90)]
    before, after = trainer.processing_class, load_tokenizer(str(tmp_path))
    assert (after.end_tokens, after.stop_tokens) == (before.end_tokens, before.stop_tokens)


@pytest.mark.parametrize("family", ["gemma2", "llama3", "qwen3"])
def test_training_renders_prompts_as_evaluation_does(tmp_path, family):
    model, variables = model_of(family, tmp_path / "model"), {"enable_thinking": False, "date_string": "1 May 2025"}
    params = configured(model, chat_template_kwargs=variables)
    prompts = [row["prompt"] for row in ROWS]
    expected = tokenize_prompts(prompts, load_tokenizer(str(model)), variables)
    trainer = building.build_trainer(ROWS, "short", Source(str(model)), params, tmp_path / "run")
    assert trainer._tokenize_prompts(prompts)[0] == expected
    solutions = sft.tokenize_solutions(ROWS, load_tokenizer(str(model)), params)
    for tokens, ids in zip(solutions, expected, strict=True):
        assert tokens["input_ids"][: tokens["labels"].count(sft.IGNORED)] == ids


@pytest.mark.parametrize("beta", [0.0, 0.1], ids=["", "with a KL term"])
def test_learned_positions_in_a_batch_are_those_of_the_prompt_alone(tmp_path, beta):
    kind, keys = ACCEPTED["gpt2"]
    build(kind, **keys | {"n_positions": 512}).save_pretrained(tmp_path / "model")
    tokenizer().save_pretrained(tmp_path / "model")
    params = configured(tmp_path / "model", **{"train.beta": beta, "precision": "float32"})
    trainer = building.build_trainer(ROWS, "short", Source(str(tmp_path / "model")), params, tmp_path / "run")
    ids = torch.arange(40, 60)[None]
    padded = torch.cat([torch.zeros(1, 7, dtype=torch.long), ids], 1)
    mask = (torch.arange(27) >= 7).long()[None]
    networks = [network for network in (trainer.model, trainer.ref_model) if network is not None]
    assert len(networks) == (2 if beta else 1)
    for network in networks:
        in_batch, alone = (
            trainer._get_per_token_logps_and_entropies(network.eval(), tokens, seen, 8)[0]
            for tokens, seen in ((padded, mask), (ids, torch.ones_like(ids)))
        )
        torch.testing.assert_close(in_batch, alone, atol=1e-4, rtol=0)
