"""Base and GRPO on a few steps with the real stages: what they write, and that the same seed gives the same bytes."""

import filecmp
import shutil
from pathlib import Path

import pandas as pd
import pytest
from gsm8k_grpo.files import read_json, read_jsonl, write_jsonl
from safetensors.torch import load_file
from small_run import PREPARE, TRAIN, assert_same_run, run, stage


@pytest.fixture(scope="module")
def trained(uninterrupted, tmp_path_factory) -> Path:
    return run(shutil.copytree(uninterrupted, tmp_path_factory.mktemp("trained") / "p"), "evaluate --model short")


def test_a_run_writes_one_row_per_step_and_its_effective_configuration(trained):
    metrics = read_json(trained / "results/train/short/metrics.json")
    rows = pd.read_csv(trained / "results/train/short/history.csv")
    assert list(rows["step"]) == list(range(1, 13))
    assert (metrics["steps"], metrics["prompts_seen"], metrics["epochs"]) == (12, 48, 1.5)
    assert metrics["skipped_steps"] == 0
    assert metrics["energy_kwh"] is None  # there is no GPU with a counter
    assert metrics["effective_config"] | {
        "max_steps": 12, "num_generations": 8, "generation_batch_size": 128, "loss_type": "dapo", "beta": 0.0,
        "dtype": "float32", "device": "cpu",
    } == metrics["effective_config"]  # fmt: skip
    rewards = [f"reward_{name}" for name in ("xmlcount", "soft_format", "strict_format", "int", "correctness")]
    assert rows["reward"].to_numpy() == pytest.approx(rows[rewards].sum(axis=1).to_numpy(), abs=1e-5)
    assert rows["learning_rate"].iloc[-1] < rows["learning_rate"].max()
    assert (rows["seconds_update"] > 0).all()
    assert rows["seconds_generate"].iloc[0] > 0
    assert rows["seconds_generate"].iloc[1] == 0  # the second step trains on the first generation


def test_training_changes_the_weights_and_leaves_no_pickle(trained):
    model = trained / "results/train/short/model"
    before = load_file(trained / "results/base/model/model.safetensors")
    after = load_file(model / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(not after[name].equal(before[name]) for name in before)
    assert {path.name for path in model.iterdir()} == {path.name for path in (trained / "results/base/model").iterdir()}


def test_the_weights_of_a_kept_step_are_a_model_of_their_own(trained):
    kept = trained / "results/train/short/checkpoints"
    assert [folder.name for folder in kept.iterdir()] == ["9"]
    final = trained / "results/train/short/model"
    assert {path.name for path in (kept / "9").iterdir()} == {path.name for path in final.iterdir()}
    weights = [load_file(folder / "model.safetensors") for folder in (kept / "9", final)]
    assert not weights[0]["model.norm.weight"].equal(weights[1]["model.norm.weight"])


def test_a_kept_step_that_the_run_does_not_reach_is_refused(trained, tmp_path):
    own = shutil.copytree(trained, tmp_path / "p")  # the refused run leaves a folder of its own beside the checkpoints
    refused = stage(own, TRAIN, variants__short__max_steps="null", variants__short__epochs=1)
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1] == (
        "error: keep_checkpoints = 9: the run has 8 steps, and its model holds the weights after the last one; name "
        "smaller steps"
    )


def test_a_finished_run_leaves_one_checkpoint_to_write_its_results_from_again(trained, tmp_path):
    checkpoints = [path.name for path in trained.glob("checkpoints/short-*/checkpoint-*")]
    assert checkpoints == ["checkpoint-12"]
    again = shutil.copytree(trained, tmp_path / "again")
    shutil.rmtree(again / "results/train")
    done = stage(again, TRAIN)
    assert done.returncode == 0, done.stderr
    assert "steps, " not in done.stderr
    assert "is configured, but" not in done.stderr
    (run_folder,) = (again / "checkpoints").glob("short-*")
    assert f"to train anew, first `gsm8k-grpo checkpoints --remove {run_folder.name}`" in done.stderr
    assert_same_run(trained, again)


def test_samples_keep_the_same_number_of_prompts_at_each_generation_kept(trained):
    samples = read_jsonl(trained / "results/train/short/samples.jsonl")
    assert [sample["step"] for sample in samples] == [1, 1, 5, 5, 9, 9]
    assert all(set(sample["rewards"]) >= {"correctness", "int"} for sample in samples)


def test_the_same_seed_gives_the_same_bytes(trained, tmp_path):
    other = run(tmp_path, *PREPARE, TRAIN, "evaluate --model short")
    assert_same_run(trained, other)
    files = [
        *(f"results/extract/{split}.jsonl" for split in ("train", "validation", "test")),
        "results/base/model/model.safetensors", "results/base/model/tokenizer.json",
        "results/evaluate/short/answers.jsonl", "results/evaluate/short/probes.jsonl",
    ]  # fmt: skip
    assert filecmp.cmpfiles(trained, other, files, shallow=False) == (files, [], [])


def test_a_subset_larger_than_the_split_is_refused(trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "p")
    split = folder / "results/extract/train.jsonl"
    write_jsonl(split, read_jsonl(split)[:31])
    refused = stage(folder, TRAIN)
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1] == (
        "error: train.prompts = 32: the train split has 31 rows; give at most that, or null for all"
    )
