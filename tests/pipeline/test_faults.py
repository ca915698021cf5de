"""Faults during a run: the disk fills up, MLflow's store disappears, a figure is not a number."""

import sqlite3
import subprocess
from pathlib import Path

import pytest
from small_run import (
    STEPS,
    TRAIN,
    assert_same_run,
    command,
    history,
    logged_steps,
    mlflow_run,
    stage,
    start,
    unprivileged,
    wait_for,
    whole,
)


@pytest.fixture
def small_disk(folder):
    """A file system of 10 MiB in the place of checkpoints: room for a checkpoint and the weights of a step."""
    (folder / "checkpoints").mkdir(exist_ok=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=10m", "tmpfs", folder / "checkpoints"], check=False)
    if mounted.returncode:
        pytest.skip("a file system can only be mounted by root")
    yield folder
    subprocess.run(["umount", folder / "checkpoints"], check=True)


def test_a_full_disk_is_said_with_the_room_needed_and_the_run_goes_on_once_there_is_room(small_disk, uninterrupted):
    stopped = stage(small_disk, TRAIN)
    assert stopped.returncode == 1
    said = stopped.stderr.splitlines()[-1]
    (place,) = [path.relative_to(small_disk) for path in small_disk.glob("checkpoints/short-*")]
    assert said.startswith(f"error: {place}/checkpoint-8: the disk is full: writing it takes about 5.")
    assert f"{place}/checkpoint-4 is intact. Free some space" in said
    assert [path.name for path in (small_disk / place).glob("checkpoint-*")] == ["checkpoint-4"]
    assert mlflow_run(small_disk).info.status == "FAILED"

    subprocess.run(["mount", "-o", "remount,size=64m", small_disk / "checkpoints"], check=True)
    done = stage(small_disk, TRAIN)
    assert done.returncode == 0, done.stderr
    assert f"resuming from {place}/checkpoint-4" in done.stderr
    assert_same_run(uninterrupted, small_disk)
    assert logged_steps(small_disk) == STEPS


def train_with(folder: Path, trouble) -> str:
    """Train, cause the trouble once the first checkpoint is complete, and return the output."""
    process = start(folder, TRAIN)
    wait_for(whole(folder, 4), process)
    undo = trouble()
    said = process.communicate()[0]
    assert process.returncode == 0, said
    undo()
    return said


def lose(store: Path):
    store.unlink()
    return lambda: None


def lock(store: Path):
    connection = sqlite3.connect(store, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    return connection.close


def corrupt(store: Path):
    store.write_bytes(b"no database " * 10_000)
    return store.unlink


@pytest.mark.parametrize("trouble", [lose, lock, corrupt])
def test_training_continues_without_its_tracking_store_and_one_command_sends_the_missing_data(
    folder, uninterrupted, trouble
):
    said = train_with(folder, lambda: trouble(folder / "tracking/mlflow.db"))
    assert said.count("tracking: MLflow can't be reached (") == 1
    assert "the stage continues, and its results are complete" in said
    assert "`gsm8k-grpo track`" in said
    assert_same_run(uninterrupted, folder)

    sent = stage(folder, "track")
    assert sent.returncode == 0, sent.stderr
    assert sent.stdout == f"short: run {mlflow_run(folder).info.run_id}\n"
    assert logged_steps(folder) == logged_steps(folder, "epoch") == STEPS
    assert mlflow_run(folder).info.status == "FINISHED"
    assert mlflow_run(folder).data.params["train.learning_rate"] == "0.0002"
    stage(folder, "track")
    assert logged_steps(folder) == STEPS


def test_training_continues_with_a_read_only_tracking_store_and_a_resumed_run_sends_the_curves(folder, uninterrupted):
    stage(folder, "evaluate --model base")
    tracking = folder / "tracking"
    for path in (tracking / "mlflow.db", tracking):
        path.chmod(0o500)
    process = subprocess.Popen(unprivileged(command(TRAIN)), cwd=folder, stderr=subprocess.PIPE, text=True)
    wait_for(whole(folder, 8), process)
    process.kill()
    assert "tracking: MLflow can't be reached (" in process.communicate()[1]
    for path in (tracking, tracking / "mlflow.db"):
        path.chmod(0o700)
    done = stage(folder, TRAIN)
    assert done.returncode == 0, done.stderr
    assert "resuming from" in done.stderr
    assert logged_steps(folder) == STEPS
    assert history(folder) == history(uninterrupted)


@pytest.mark.parametrize(
    ("settings", "step", "what"),
    [
        ({"rewards__weights": "{int: 1.0e+39}"}, 1, "reward int times its weight is "),
        ({"train__learning_rate": "1e30", "train__warmup_ratio": 0}, 2, "loss is nan"),
    ],
    ids=["reward", "loss"],
)
def test_a_figure_that_is_not_a_number_stops_training_with_step_and_cause(folder, settings, step, what):
    stopped = stage(folder, TRAIN, **settings)
    assert stopped.returncode == 1
    said = stopped.stderr.splitlines()[-1]
    assert said.startswith(f"error: step {step}: {what}")
    assert said.endswith(
        "training stopped before it was saved. There is no checkpoint yet. A lower train.learning_rate or "
        "train.max_grad_norm, or other rewards, may help"
    )
    assert mlflow_run(folder).info.status == "FAILED"
    assert not (folder / "results/train").exists()


def test_the_last_good_checkpoint_is_kept_when_training_diverges(folder):
    """The warm-up takes several steps to reach a rate at which nothing stays finite."""
    settings = {
        "train__learning_rate": "1e30", "train__lr_scheduler_type": "constant_with_warmup", "train__save_steps": 1,
        "train__warmup_ratio": 0.99, "train__max_grad_norm": 1,
    }  # fmt: skip
    stopped = stage(folder, TRAIN, **settings)
    said = stopped.stderr.splitlines()[-1]
    good = max(folder.glob("checkpoints/short-*/checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    assert f"{good.relative_to(folder)} is the last good checkpoint" in said
    assert (good / "manifest.json").exists()
