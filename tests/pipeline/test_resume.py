"""Interrupted training resumes: the same bytes, the same MLflow run, nothing computed or logged twice."""

import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from gsm8k_grpo.files import read_json
from gsm8k_grpo.stages.train import run_folders
from small_run import STEPS, TRAIN, assert_same_run, logged_steps, mlflow_run, run, stage, start, wait_for, whole


def kept(folder: Path, step: int):
    return lambda: any(folder.glob(f"checkpoints/short-*/kept/{step}"))


def end(process: subprocess.Popen) -> str:
    """Wait until a process has ended, and return its output."""
    return process.communicate()[0]


def checkpoint(folder: Path, step: int) -> Path:
    (path,) = folder.glob(f"checkpoints/short-*/checkpoint-{step}")
    return path


@pytest.fixture
def cut(folder) -> Path:
    """A folder whose training was killed after checkpoints 4 and 8 were complete."""
    process = start(folder, TRAIN)
    wait_for(whole(folder, 8), process)
    os.killpg(process.pid, signal.SIGKILL)
    end(process)
    assert not (folder / "results/train").exists()
    return folder


def test_a_killed_run_resumes_from_its_newest_checkpoint_and_ends_in_the_same_bytes(cut, uninterrupted):
    done = stage(cut, TRAIN)
    assert done.returncode == 0, done.stderr
    assert f"resuming from {checkpoint(cut, 12).parent.relative_to(cut)}/checkpoint-8" in done.stderr
    assert_same_run(uninterrupted, cut)
    assert logged_steps(cut) == logged_steps(cut, "epoch") == STEPS
    assert mlflow_run(cut).info.status == "FINISHED"
    assert read_json(cut / "results/train/short/metrics.json")["sessions"] == 2


@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_saves_a_checkpoint_amid_a_generation_and_the_run_ends_in_the_same_bytes(folder, uninterrupted, asked):
    process = start(folder, TRAIN)
    wait_for(kept(folder, 9), process)  # in the second epoch, one step into the third generation
    process.send_signal(asked)
    began = time.monotonic()
    said = end(process)
    assert time.monotonic() - began < 10
    assert process.returncode == 128 + asked
    assert said.splitlines()[-1].startswith(f"{asked.name}: stopped; ")
    assert mlflow_run(folder).info.status == "KILLED"
    saved = max(folder.glob("checkpoints/short-*/checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    assert saved.name in ("checkpoint-9", "checkpoint-10", "checkpoint-11")
    assert (saved / "generation.safetensors").exists()

    run(folder, TRAIN)
    assert_same_run(uninterrupted, folder)
    assert logged_steps(folder) == STEPS
    assert mlflow_run(folder).info.status == "FINISHED"


def test_a_burst_of_signals_still_saves_the_checkpoint(folder):
    process = start(folder, TRAIN)
    wait_for(kept(folder, 9), process)
    for _ in range(5):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.002)
    end(process)
    assert process.returncode == 128 + signal.SIGTERM
    assert mlflow_run(folder).info.status == "KILLED"
    saved = max(int(path.name.split("-")[1]) for path in folder.glob("checkpoints/short-*/checkpoint-*"))
    assert 9 <= saved < 12


def test_a_truncated_newest_checkpoint_is_named_and_the_one_before_is_used(cut, uninterrupted):
    weights = checkpoint(cut, 8) / "optimizer.pt"
    weights.write_bytes(weights.read_bytes()[:-1000])
    done = stage(cut, TRAIN)
    assert done.returncode == 0, done.stderr
    place = checkpoint(cut, 12).parent.relative_to(cut)
    assert f"{place}/checkpoint-8: optimizer.pt does not agree with its checksum; removed it" in done.stderr
    assert f"resuming from {place}/checkpoint-4" in done.stderr
    assert_same_run(uninterrupted, cut)
    assert logged_steps(cut) == STEPS


def test_a_flipped_bit_in_the_weights_is_detected(cut, uninterrupted):
    weights = checkpoint(cut, 8) / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    done = stage(cut, TRAIN)
    assert "checkpoint-8: model.safetensors does not agree with its checksum" in done.stderr
    assert_same_run(uninterrupted, cut)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("manifest.json", "checkpoint-8: not completely written"),
        ("rng_state.pth", "checkpoint-8: rng_state.pth is missing"),
    ],
)
def test_a_checkpoint_with_a_missing_file_is_not_used(cut, name, said):
    (checkpoint(cut, 8) / name).unlink()
    done = stage(cut, TRAIN)
    assert said in done.stderr
    assert "checkpoint-4\n" in done.stderr


def test_a_run_with_other_settings_is_not_resumed_and_its_folder_can_be_removed(cut):
    (old,) = [path.name for path in cut.glob("checkpoints/short-*")]
    other = {"train__learning_rate": "1e-4"}
    done = stage(cut, TRAIN, **other)
    assert done.returncode == 0, done.stderr
    assert "resuming from" not in done.stderr
    (mentioned,) = [line for line in done.stderr.splitlines() if f"checkpoints/{old}" in line]
    assert mentioned.startswith("train short: leaving alone ")
    (new,) = {path.name for path in cut.glob("checkpoints/short-*")} - {old}

    listed = stage(cut, "checkpoints", **other).stdout.splitlines()
    assert sorted(line.split("  ")[0::3] for line in listed) == sorted(
        [
            [f"checkpoints/{new}", "resumed by the present configuration"],
            [f"checkpoints/{old}", "not resumed: other settings, data or code"],
        ]
    )
    wrong = stage(cut, "checkpoints --remove shrot", **other)
    assert wrong.returncode == 1
    assert wrong.stderr == f"error: --remove shrot: choose from {', '.join(sorted([old, new]))}\n"
    removed = stage(cut, "checkpoints --remove-old", **other)
    assert removed.stdout.startswith(f"removed checkpoints/{old} (")
    assert [path.name for path in cut.glob("checkpoints/short-*")] == [new]


def test_a_run_of_an_earlier_version_is_listed_and_named_but_not_resumed(folder):
    old = folder / "scratch/short-0123456789ab/checkpoint-4"
    old.mkdir(parents=True)
    done = stage(folder, TRAIN, variants__short__max_steps=4, keep_checkpoints="[]")
    assert done.returncode == 0, done.stderr
    assert "scratch/short-0123456789ab" in done.stderr
    assert read_json(folder / "results/train/short/metrics.json")["sessions"] == 1
    assert list(old.iterdir()) == []
    listed = [line.split()[0] for line in stage(folder, "checkpoints").stdout.splitlines()]
    assert listed[-1] == "scratch/short-0123456789ab"
    assert listed[0].startswith("checkpoints/short-")


def test_the_folder_of_a_running_training_is_not_removed(folder, monkeypatch):
    process = start(folder, TRAIN)
    wait_for(whole(folder, 4), process)
    process.send_signal(signal.SIGSTOP)  # so that it keeps its lock for the whole test
    (name,) = [path.name for path in folder.glob("checkpoints/short-*")]
    refused = stage(folder, f"checkpoints --remove {name}")
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: another process is running train-short in this folder; ")
    assert checkpoint(folder, 4).exists()
    os.killpg(process.pid, signal.SIGKILL)
    end(process)


def test_a_run_keeps_few_checkpoints(folder):
    process = start(folder, TRAIN, train__save_steps=1, variants__short__max_steps=24)
    most = 0
    while process.poll() is None:
        most = max(most, len(list(folder.glob("checkpoints/short-*/checkpoint-*"))))
        time.sleep(0.01)
    assert process.returncode == 0, end(process)
    assert most == 3  # two complete ones, and the one being written
    assert len(list(folder.glob("checkpoints/short-*/checkpoint-*"))) == 1


def test_no_process_is_left_behind(folder):
    process = start(folder, TRAIN)
    wait_for(whole(folder, 4), process)
    tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    process.send_signal(signal.SIGTERM)
    end(process)
    assert psutil.wait_procs(tree, timeout=5)[1] == []


def test_a_trained_run_holds_nothing_foreign(uninterrupted, monkeypatch):
    monkeypatch.chdir(uninterrupted)
    (run,) = run_folders.runs()
    assert (run.variant, run.step, run.foreign) == ("short", 12, ())
