"""Several seeds: each variant is trained and evaluated with each of them, and the spread is reported."""

import filecmp
import re
import shutil

import pytest
from gsm8k_grpo.config import params
from gsm8k_grpo.config.resolved import resolved
from gsm8k_grpo.config.sections import Compare
from gsm8k_grpo.files import PipelineError, read_json, write_json, write_jsonl
from gsm8k_grpo.stages.compare.seeds import spread
from gsm8k_grpo.stages.compare.stage import compare
from small_run import MODEL_FILES, TRAIN, checkout, run, snakemake


def answers(strict, flexible, n=20):
    """Rows whose first `strict` and `flexible` answers are correct."""
    marks = [{"strict_correct": i < strict, "flexible_correct": i < flexible, "format_ok": True} for i in range(n)]
    return [{"id": f"test-{i}", "question": f"What is {i} and 1?"} | mark for i, mark in enumerate(marks)]


# The spread


def test_the_spread_has_each_run_the_mean_and_the_sample_standard_deviation():
    result = spread({42: 0.5, 43: 0.75, 44: 0.25})
    assert result == {"seeds": [42, 43, 44], "values": [0.5, 0.75, 0.25], "mean": 0.5, "sd": 0.25}


def test_one_seed_has_no_standard_deviation():
    assert spread({42: 0.3}) == {"seeds": [42], "values": [0.3], "mean": 0.3, "sd": None}


def test_every_variant_has_its_spread_and_only_models_of_the_first_seed_are_compared(tmp_path):
    right = {"base": (2, 4), "short": (6, 8), "short_s7": (10, 12), "full": (12, 12), "full_s7": (12, 14)}
    for model, counts in right.items():
        write_jsonl(tmp_path / "evaluate" / model / "answers.jsonl", answers(*counts))
    runs = {"short": {1: "short", 7: "short_s7"}, "full": {1: "full", 7: "full_s7"}}
    compare(tmp_path / "evaluate", runs, tmp_path / "compare", Compare(resamples=100), seed=1)
    spreads = {(row["variant"], row["metric"]): row for row in read_json(tmp_path / "compare" / "seeds.json")}
    assert {key: row["values"] for key, row in spreads.items()} == {
        ("short", "strict_accuracy"): [0.3, 0.5],
        ("short", "flexible_accuracy"): [0.4, 0.6],
        ("full", "strict_accuracy"): [0.6, 0.6],
        ("full", "flexible_accuracy"): [0.6, 0.7],
    }
    assert all(row["seeds"] == [1, 7] for row in spreads.values())
    assert spreads["short", "strict_accuracy"]["mean"] == pytest.approx(0.4)
    assert spreads["short", "strict_accuracy"]["sd"] == pytest.approx(0.2 / 2**0.5)
    assert spreads["full", "strict_accuracy"]["sd"] == 0.0
    compared = {(row["a"], row["b"]) for row in read_json(tmp_path / "compare" / "comparison.json")}
    assert compared == {("base", "short"), ("base", "full"), ("short", "full")}


# The runs


@pytest.fixture(scope="module")
def of_three(root):
    return params.load(root / "params.yaml", {"seed": 5, "seeds": [43, 44]})


def test_every_variant_runs_with_every_seed(of_three):
    assert of_three.runs == {
        "short": {5: "short", 43: "short_s43", 44: "short_s44"},
        "full": {5: "full", 43: "full_s43", 44: "full_s44"},
    }
    assert {"short_s43", "full_s44"} < set(of_three.model_names())
    assert not any(name.startswith("short_s43@") for name in of_three.model_names())


def test_a_further_run_differs_from_its_variant_only_in_seed_and_kept_checkpoints(of_three):
    own = of_three.of_run("full_s43")
    assert (own.seed, own.keep_checkpoints, own.kept_steps("full_s43")) == (43, [], [])
    assert own.variants == {"full_s43": of_three.variants["full"]}
    changed = {"seed", "seeds", "keep_checkpoints", "variants"}
    assert own.model_dump(exclude=changed) == of_three.model_dump(exclude=changed)


def test_a_variant_may_not_have_the_name_of_a_further_run(root):
    changed = {"seeds": [43], "variants.short_s43": {"max_steps": 9}}
    with pytest.raises(PipelineError, match=r"variants\.short_s43: .*short with seed 43"):
        params.load(root / "params.yaml", changed)


@pytest.mark.parametrize("model", ["base", "short", "short@100"])
def test_other_models_use_the_configuration_unchanged(of_three, model):
    assert of_three.of_run(model) is of_three


def test_by_default_there_is_one_seed(root):
    settings = params.load(root / "params.yaml")
    assert settings.runs == {"short": {42: "short"}, "full": {42: "full"}}
    keys = resolved(settings)
    assert set(keys.pop("training")) == {"short", "full"}
    assert keys == settings.model_dump()


def test_the_resolved_configuration_has_an_entry_per_run(of_three):
    variants = resolved(of_three)["variants"]
    assert list(variants) == ["short", "full", "short_s43", "short_s44", "full_s43", "full_s44"]
    assert variants["short_s44"] == variants["short"] | {"seed": 44}


def test_the_workflow_trains_and_evaluates_each_run_once_and_base_once(tmp_path):
    dry = snakemake(checkout(tmp_path), "-n", "report", "--config", "seeds=[43]")
    planned, _ = dry.communicate(timeout=120)
    assert dry.returncode == 0, planned
    assert sorted(re.findall(r"^    log: logs/(train|evaluate)/(.+)\.log$", planned, re.MULTILINE)) == sorted(
        [("train", run) for run in ("short", "full", "short_s43", "full_s43")]
        + [("evaluate", model) for model in ("base", "short", "full", "short_s43", "full_s43")]
    )


def test_a_further_seed_trains_like_that_seed_on_the_data_and_base_of_the_first_seed(prepared, uninterrupted, tmp_path):
    further = shutil.copytree(prepared, tmp_path / "further")
    alone = shutil.copytree(prepared, tmp_path / "alone")
    for note in alone.glob("results/*/configuration.json"):  # or training would refuse what seed 42 made
        write_json(note, read_json(note) | {"seed": 43})
    run(further, "train --variant short_s43", seeds="[43]")
    run(alone, TRAIN, seed=43, keep_checkpoints="[]")
    one, other = further / "results/train/short_s43", alone / "results/train/short"
    files = ["model/model.safetensors", "samples.jsonl"]
    assert filecmp.cmpfiles(one, other, files, shallow=False) == (files, [], [])
    assert not filecmp.cmp(one / files[0], uninterrupted / MODEL_FILES[0], shallow=False)
    assert list((one / "checkpoints").iterdir()) == []
