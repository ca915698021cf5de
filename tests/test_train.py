"""Base and GRPO on a few steps, for real: what the stages write, that a seed gives bytes, that a cut run resumes."""

import filecmp
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest
from conftest import COMMAND, ROOT
from gsm8k_grpo.files import read_json, read_jsonl
from safetensors.torch import load_file

FEW = [
    "download.generated.train_rows=60", "download.generated.test_rows=10", "extract.validation_rows=10",
    "base.steps=6", "train.prompts=32", "train.max_completion_length=24", "train.save_steps=4",
    "train.sample_steps=4", "train.sample_prompts=2", "train.per_device_train_batch_size=32",
    "train.steps_per_generation=4", "variants.short.max_steps=12", "evaluate.max_completion_length=24",
    "compare.resamples=100",
]  # fmt: skip
WALL_CLOCK = {"seconds", "seconds_generate", "seconds_score", "seconds_update", "peak_memory_gib", "mlflow_run_id"}


def command(folder: Path, *arguments: str) -> list[str | Path]:
    shutil.copy(ROOT / "params.yaml", folder)
    return [COMMAND, *arguments, *(word for one in FEW for word in ("--set", one))]


def run(folder: Path, *stages: list[str]) -> Path:
    for stage in stages:
        done = subprocess.run(command(folder, *stage), cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return folder


PREPARE = (["download"], ["extract"], ["base"])
TRAIN = ["train", "--variant", "short"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    return run(tmp_path_factory.mktemp("trained"), *PREPARE, TRAIN, ["evaluate", "--model", "short"])


def without_clock(folder: Path) -> dict:
    metrics = read_json(folder / "results/train/short/metrics.json")
    return {key: value for key, value in metrics.items() if key not in WALL_CLOCK}


def history(folder: Path) -> pd.DataFrame:
    rows = pd.read_csv(folder / "results/train/short/history.csv")
    return rows.drop(columns=[column for column in rows if column in WALL_CLOCK])


def assert_same_run(one: Path, other: Path) -> None:
    files = ["results/train/short/model/model.safetensors", "results/train/short/samples.jsonl"]
    assert filecmp.cmpfiles(one, other, files, shallow=False) == (files, [], [])
    pd.testing.assert_frame_equal(history(one), history(other), check_exact=True)
    assert without_clock(one) == without_clock(other)


def test_a_run_writes_a_row_a_step_and_what_it_ran_with(trained):
    metrics = read_json(trained / "results/train/short/metrics.json")
    rows = pd.read_csv(trained / "results/train/short/history.csv")
    assert list(rows["step"]) == list(range(1, 13))
    assert (metrics["steps"], metrics["prompts_seen"], metrics["epochs"]) == (12, 48, 1.5)
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


def test_samples_keep_the_same_number_of_prompts_at_each_generation_kept(trained):
    samples = read_jsonl(trained / "results/train/short/samples.jsonl")
    assert [sample["step"] for sample in samples] == [1, 1, 5, 5, 9, 9]
    assert all(set(sample["rewards"]) >= {"correctness", "int"} for sample in samples)


def test_the_same_seed_gives_the_same_bytes(trained, tmp_path):
    other = run(tmp_path, *PREPARE, TRAIN, ["evaluate", "--model", "short"])
    assert_same_run(trained, other)
    files = [
        *(f"results/extract/{split}.jsonl" for split in ("train", "validation", "test")),
        "results/base/model/model.safetensors", "results/base/model/tokenizer.json",
        "results/evaluate/short/answers.jsonl", "results/evaluate/short/probes.jsonl",
    ]  # fmt: skip
    assert filecmp.cmpfiles(trained, other, files, shallow=False) == (files, [], [])


def test_a_run_that_is_killed_goes_on_from_its_checkpoint_and_ends_in_the_same_bytes(trained, tmp_path):
    folder = run(tmp_path, *PREPARE)
    killed = subprocess.Popen(command(folder, *TRAIN), cwd=folder, start_new_session=True, stderr=subprocess.DEVNULL)
    while not list(folder.glob("scratch/short-*/checkpoint-4/samples.jsonl")):
        assert killed.poll() is None
        time.sleep(0.02)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not (folder / "results/train").exists()
    assert_same_run(trained, run(folder, TRAIN))
    assert not list(folder.glob("scratch/*"))


def test_a_subset_larger_than_the_split_is_refused(trained):
    refused = subprocess.run(
        [*command(trained, *TRAIN), "--set", "train.prompts=51"],
        cwd=trained,
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1] == (
        "error: train.prompts = 51: the train split has 50 rows; give at most that, or null for all"
    )
