"""`gsm8k-grpo configure --print`: the resolved configuration, each value with the file or option that it comes from."""

import json

import pytest
from gsm8k_grpo.config import layers
from gsm8k_grpo.config.origins import annotated
from gsm8k_grpo.config.params import load
from gsm8k_grpo.config.recipes import recipes

DEFAULTS, TINY = "workflow/recipes/defaults.yaml", "workflow/recipes/tiny.yaml"


@pytest.fixture
def lines(root):
    """A function that returns the annotated lines of the configuration with overrides."""
    path = root / "params.yaml"

    def annotate(config=(), options=(), path=path):
        config, options = dict(config), dict(options)
        return annotated(load(path, config | options), config, options, path).splitlines()

    return annotate


def test_each_value_names_the_file_or_option_it_comes_from(lines, root):
    config = {"train": {"temperature": 0.5, "beta": 0.1}}
    printed = lines(config, {"train.beta": 0.2, "seeds": [43, 44]})
    assert {
        f"recipe: tiny  # {root / 'params.yaml'}",
        "seeds: [43, 44]  # --set",
        f"threads: 2  # {TINY}",
        f"lora: null  # {DEFAULTS}",
        f"  prompts: 400  # {TINY}",
        "  temperature: 0.5  # --config",
        "  beta: 0.2  # --set",
        f"  learning_rate: 0.0002  # {DEFAULTS}",
        "    rewards: null  # not set",
    } <= set(printed)
    assert printed.count("train:") == 1


def test_a_section_replaced_as_a_whole_has_the_origin_of_its_last_layer(lines):
    printed = lines({"rewards.weights.int": 1}, {"evaluate.sets": {}, "rewards.weights.correctness": 2})
    assert "  sets: {}  # --set" in printed
    weights = printed.index("  weights:")
    assert printed[weights : weights + 3] == ["  weights:", "    int: 1.0  # --config", "    correctness: 2.0  # --set"]
    assert f"  set: robust  # {DEFAULTS}" in printed


def test_an_empty_section_replaces_nothing(lines):
    assert lines(options={"train": {}}) == lines()


@pytest.mark.parametrize("recipe", recipes())
def test_the_printed_configuration_is_yaml_with_the_same_values(lines, root, recipe):
    overrides = {"recipe": recipe, "path": "data"}
    printed = layers.parse("\n".join(lines(overrides)))
    assert printed == load(root / "params.yaml", overrides).model_dump()


def test_the_command_prints_and_writes_nothing(cli, workdir, monkeypatch):
    monkeypatch.setenv(layers.ENVIRONMENT, json.dumps({"threads": 1}))
    done = cli("configure", "--print", "--set", "train.learning_rate=1e-4")
    assert (done.returncode, done.stderr) == (0, "")
    assert {
        "recipe: tiny  # params.yaml",
        "threads: 1  # --config",
        "  learning_rate: 0.0001  # --set",
        f"  warmup_ratio: 0.05  # {DEFAULTS}",
    } <= set(done.stdout.splitlines())
    assert not (workdir / "results").exists()


def test_the_sets_of_more_sets_name_their_file(lines, root):
    options = {"evaluate.more_sets": True, "evaluate.sets": {"mine": {"path": "a.jsonl"}}}
    printed = lines(options=options)
    assert "        dataset: ScaleAI/gsm1k  # workflow/recipes/more-sets.yaml" in printed
    assert "      path: a.jsonl  # --set" in printed
    assert layers.parse("\n".join(printed)) == load(root / "params.yaml", options).model_dump()
    assert "  sets: {}  # --set" not in printed
    assert "    fresh:" in lines(options={"evaluate.more_sets": True, "evaluate.sets": {}})
