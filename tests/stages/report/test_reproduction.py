"""How the report says a run is reproduced: command, digests, and differences from the published recipe."""

import hashlib
import json
import shlex

import pytest
from gsm8k_grpo.config import layers, params
from gsm8k_grpo.config.overrides import parse_override
from gsm8k_grpo.stages.report import reproduction
from gsm8k_grpo.stages.report.reproduction import ABSENT
from gsm8k_grpo.stages.report.results import read_results
from sample_results import write_results


@pytest.fixture
def results(tmp_path, root):
    settings = params.load(root / "params.yaml", {"compare.resamples": 200})
    write_results(tmp_path, settings)
    return read_results(tmp_path, settings)


def settings(root, **overrides):
    return {setting.key: setting for setting in reproduction.settings(params.load(root / "params.yaml", overrides))}


def test_keys_that_differ_from_the_published_recipe_show_both_values(root):
    keys = settings(root)
    assert (keys["train.learning_rate"].value, keys["train.learning_rate"].published) == (2e-4, 5e-6)
    assert keys["train.learning_rate"].differs
    assert not keys["train.adam_beta2"].differs  # 0.99 in both
    assert (keys["lora.rank"].value, keys["lora.rank"].published) == (ABSENT, 32)
    assert keys["lora.rank"].differs


def test_keys_that_the_published_recipe_leaves_open_do_not_differ(root):
    keys = settings(root)
    for key in (
        "variants.short.max_steps",
        "seed",
        "base.steps",
        "base",
        "lora",
        "evaluate.batch_size",
        "sft.learning_rate",
    ):
        assert not keys[key].differs, key


def test_the_published_recipe_does_not_differ_from_itself(root):
    assert [key for key, setting in settings(root, recipe=reproduction.PUBLISHED).items() if setting.differs] == []


def test_the_command_repeats_the_settings_of_config(monkeypatch):
    monkeypatch.delenv(layers.ENVIRONMENT, raising=False)
    assert reproduction.command() == "snakemake --cores 1 report"
    monkeypatch.setenv(layers.ENVIRONMENT, json.dumps({"recipe": "rtx4090", "train": {"learning_rate": 1e-4}}))
    words = shlex.split(reproduction.command())
    assert words[:6] == ["snakemake", "--cores", "1", "report", "--config", "recipe=rtx4090"]
    assert parse_override(words[6]) == ("train", {"learning_rate": 1e-4})


def test_digests_of_lock_data_and_image(results, root, monkeypatch):
    monkeypatch.setenv(reproduction.IMAGE, "sha256:1234")
    lock = hashlib.sha256((root / "envs/cpu.txt").read_bytes()).hexdigest()
    assert reproduction.identities(results, "c0ffee") == {
        "git commit": "c0ffee",
        "envs/cpu.txt": f"sha256 {lock}",
        "train.jsonl": f"sha256 {'0' * 64}",
        "test.jsonl": f"sha256 {'0' * 64}",
        "container image": "sha256:1234",
    }


def test_a_run_on_a_gpu_has_the_lock_file_of_gpus(results):
    for run in results.training.values():
        run["effective_config"]["device"] = "NVIDIA H100"
    assert reproduction.lock(results).name == "cuda.txt"
