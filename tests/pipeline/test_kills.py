"""Processes of the workflow are killed, stopped or started twice; the same command resumes and loses nothing."""

import filecmp
import os
import pty
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import yaml
from gsm8k_grpo.config import layers
from gsm8k_grpo.files import read_json
from small_run import (
    MODEL_FILES,
    PREPARE,
    assert_same_run,
    history,
    logged_steps,
    mlflow_run,
    run,
    snakemake,
    take_terminal,
    wait_for,
    whole,
    workflow,
)  # fmt: skip

SEED = 1
WEIGHTS = "results/train/short/metrics.json"
SAME = [
    *(f"results/download/{split}.jsonl" for split in ("train", "test")),
    *(f"results/extract/{split}.jsonl" for split in ("train", "validation", "test")),
    *(f"results/base/model/{file}" for file in ("model.safetensors", "tokenizer.json")),
    *(
        f"results/train/{variant}/{file}"
        for variant in ("short", "full")
        for file in ("model/model.safetensors", "checkpoints/9/model.safetensors", "samples.jsonl")
    ),
    *(
        f"results/evaluate/{model}/{file}"
        for model in ("base", "short", "full")
        for file in ("answers.jsonl", "probes.jsonl", "checkpoints.jsonl")
    ),
    "results/compare/comparison.json",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """The workflow's folder after the variant short was trained without interruption."""
    return run(workflow(tmp_path_factory.mktemp("trained") / "p"), *PREPARE, "train --variant short")


@pytest.fixture
def prepared(trained, tmp_path) -> Path:
    """The workflow's folder before training."""
    folder = shutil.copytree(trained, tmp_path / "p")
    for left in ("results/train", "checkpoints", "tracking"):
        shutil.rmtree(folder / left)
    return folder


def tree(process: subprocess.Popen) -> list[psutil.Process]:
    return [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]


def succeed(folder: Path, *arguments: str) -> None:
    """Run Snakemake to its end."""
    process = snakemake(folder, *arguments)
    said = process.communicate()[0]
    assert process.returncode == 0, said


def ended(process: psutil.Process) -> bool:
    """Whether a process has ended; a zombie, which only waits to be collected, has ended too."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def stage_of(process: subprocess.Popen) -> psutil.Process | None:
    """The process of the stage that Snakemake is running, or None."""
    children = psutil.Process(process.pid).children() if process.poll() is None else []
    return children[0] if children else None


@pytest.mark.parametrize(
    ("victim", "asked"),
    [("group", signal.SIGINT), ("snakemake", signal.SIGTERM), ("snakemake", signal.SIGKILL)],
    ids=["Ctrl-C", "terminated", "killed"],
)
def test_when_snakemake_ends_its_training_saves_and_ends_and_the_same_command_resumes(trained, prepared, victim, asked):
    process = snakemake(prepared, WEIGHTS)
    wait_for(whole(prepared, 4), process)
    everyone = tree(process)
    (os.killpg if victim == "group" else os.kill)(process.pid, asked)
    process.communicate(timeout=10)
    assert process.returncode != 0
    psutil.wait_procs(everyone, timeout=1)
    assert all(ended(process) for process in everyone)
    assert mlflow_run(prepared).info.status == "KILLED"

    succeed(prepared, WEIGHTS)
    assert "resuming from checkpoints/short-" in (prepared / "logs/train/short.log").read_text()
    assert_same_run(trained, prepared)
    assert logged_steps(prepared) == list(range(1, 13))


def read(terminal: int) -> None:
    """Take what was written to a terminal, so that nobody has to wait for its reader."""
    with suppress(BlockingIOError):
        os.read(terminal, 1 << 16)


def test_training_outlives_the_reader_of_its_output_and_its_log_is_whole(trained, prepared):
    process = snakemake(prepared, WEIGHTS)
    while "of 12 steps" not in process.stdout.readline():
        assert process.poll() is None
    process.stdout.close()
    assert process.wait(120) == 0
    assert "train short: 12 of 12 steps, " in (prepared / "logs/train/short.log").read_text()
    assert_same_run(trained, prepared)
    assert mlflow_run(prepared).info.status == "FINISHED"


def test_training_whose_terminal_is_closed_saves_and_is_told_as_killed(prepared):
    terminal, inside = pty.openpty()
    os.set_blocking(terminal, False)
    process = subprocess.Popen(
        [Path(sys.executable).with_name("snakemake"), "--cores", "1", WEIGHTS],
        cwd=prepared, env=os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
        stdin=inside, stdout=inside, stderr=inside, start_new_session=True, preexec_fn=take_terminal,
    )  # fmt: skip
    os.close(inside)
    saved = whole(prepared, 4)
    wait_for(lambda: read(terminal) or saved(), process)
    everyone = tree(process)
    os.close(terminal)
    process.wait(10)
    psutil.wait_procs(everyone, timeout=30)
    assert all(ended(process) for process in everyone)
    said = (prepared / "logs/train/short.log").read_text().splitlines()[-1]
    assert said.endswith(": stopped; repeat the command to continue")  # SIGHUP of the terminal or SIGTERM of Snakemake
    assert mlflow_run(prepared).info.status == "KILLED"


def test_a_second_pipeline_in_the_folder_is_refused_and_the_first_is_not_disturbed(trained, prepared):
    first = snakemake(prepared, WEIGHTS)
    wait_for(whole(prepared, 4), first)
    stage_of(first).suspend()  # so that it lasts longer than the second pipeline waits
    second, deleting = snakemake(prepared, WEIGHTS), snakemake(prepared, "--delete-all-output", WEIGHTS)
    for other in (second, deleting):
        said = other.communicate()[0].splitlines()
        assert other.returncode == 1
        assert said[-1].startswith("error: another pipeline is running in this folder")
    dry_run = snakemake(prepared, "-n", WEIGHTS)
    assert "This was a dry-run" in dry_run.communicate()[0]
    stage_of(first).resume()
    said = first.communicate()[0]
    assert first.returncode == 0, said
    assert_same_run(trained, prepared)


def starting_from_sft(folder: Path) -> Path:
    """The folder, in whose params.yaml short starts from a variant sft."""
    params = folder / "params.yaml"
    changed = layers.read(params)
    changed["variants"] = {"sft": {"method": "sft", "max_steps": 4}, "short": {"max_steps": 12, "start": "sft"}}
    params.write_text(yaml.safe_dump(changed | {"keep_checkpoints": []}))
    return folder


def state(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Time and content of every file of a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def test_a_killed_variant_goes_on_and_neither_this_nor_a_change_trains_its_start_again(prepared):
    folder = starting_from_sft(prepared)
    process = snakemake(folder, WEIGHTS)
    wait_for(whole(folder, 4), process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    start = state(folder / "results/train/sft")
    succeed(folder, WEIGHTS)
    assert "resuming from checkpoints/short-" in (folder / "logs/train/short.log").read_text()
    weights = (folder / MODEL_FILES[0]).read_bytes()

    for left in ("results/train/short", "checkpoints"):
        shutil.rmtree(folder / left)
    succeed(folder, WEIGHTS)
    assert (folder / MODEL_FILES[0]).read_bytes() == weights

    # The section `train` is of methods that learn from rewards.
    succeed(folder, WEIGHTS, "--config", 'variants={"short": {"max_steps": 8}}', 'train={"learning_rate": 1e-4}')
    assert read_json(folder / WEIGHTS)["steps"] == 8
    assert state(folder / "results/train/sft") == start


def assert_same_results(one: Path, other: Path) -> None:
    assert filecmp.cmpfiles(one, other, SAME, shallow=False) == (SAME, [], [])
    assert history(one) == history(other)


def kill(victim: str, process: subprocess.Popen) -> None:
    """Kill the whole process group, only Snakemake, or only the stage, as soon as one runs."""
    if victim == "everything":
        os.killpg(process.pid, signal.SIGKILL)
    elif victim == "snakemake":
        process.kill()
    else:
        wait_for(lambda: killed(stage_of(process)), process)
    process.wait()


def killed(stage: psutil.Process | None) -> bool:
    """Whether there was a stage, and it has not ended before it was killed."""
    if stage is None:
        return False
    with suppress(psutil.NoSuchProcess):
        stage.kill()
        return True
    return False


def test_nine_kills_at_random_moments_end_in_the_same_bytes(tmp_path):
    """The same command runs again at once after each kill; if it gets to the end, a new round begins.

    `benchmarks/interruptions.py` does so fifty times and more, with signals and closed terminals, too.
    """
    undisturbed = workflow(tmp_path / "undisturbed")
    began = time.monotonic()
    succeed(undisturbed, "report")
    longest = (time.monotonic() - began) / 3  # in that time some stages finish, others do not

    folder, moment = workflow(tmp_path / "disturbed"), random.Random(SEED)
    victims = ["everything", "snakemake", "stage"] * 3
    moment.shuffle(victims)
    while victims:
        process = snakemake(folder, "report")
        try:
            said = process.communicate(timeout=moment.uniform(0.5, longest))[0]
        except subprocess.TimeoutExpired:
            kill(victims.pop(), process)
            continue
        assert process.returncode == 0, said
        assert_same_results(undisturbed, folder)
        for left in ("results", "checkpoints"):
            shutil.rmtree(folder / left)
    succeed(folder, "report")
    assert_same_results(undisturbed, folder)
