"""The pipeline on a real Slurm cluster of one node, by `profiles/slurm`: a job is cancelled and submitted again."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import slurm
from project import ROOT
from small_run import PREPARE, STEPS, TRAIN, assert_same_run, logged_steps, mlflow_run, run, wait_for, whole, workflow

TRAINED = "results/train/short/metrics.json"
# Small jobs on a small node, whose end is noticed at once.
ON_A_SMALL_NODE = [
    "--slurm-no-account", "--slurm-init-seconds-before-status-checks", "1", "--latency-wait", "5",
    "--default-resources", "mem_mb=500", "runtime=20", "--set-threads", "base=1", "train=1",
    "--set-resources", "base:mem_mb=2000", "train:mem_mb=2000",
]  # fmt: skip


@pytest.fixture(scope="module")
def plugin(tmp_path_factory) -> Path:
    """A folder with the packages of envs/slurm.txt."""
    folder = tmp_path_factory.mktemp("plugin")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder]
    done = subprocess.run([*install, "--requirement", ROOT / "envs/slurm.txt"], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("the packages of envs/slurm.txt can't be installed")
    return folder


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[slurm.Cluster]:
    lacking = slurm.missing()
    if lacking:
        pytest.skip(lacking)
    with slurm.running(tmp_path_factory.mktemp("slurm")) as running:
        yield running


@pytest.fixture
def submit(cluster, plugin, tmp_path) -> Callable[[], subprocess.Popen[str]]:
    """Starts Snakemake in the project's folder, tmp_path / "p", with the profile for Slurm."""
    folder = workflow(tmp_path / "p")
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{folder / 'workflow'}{os.pathsep}{plugin}",
    }
    command = ["snakemake", TRAINED, "--workflow-profile", "profiles/slurm", *ON_A_SMALL_NODE]

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            cluster.command(*command), cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, start_new_session=True,
        )  # fmt: skip

    return start


def test_a_cancelled_training_saves_and_the_same_command_ends_in_the_bytes_of_a_run_without_slurm(
    cluster, submit, tmp_path
):
    folder = tmp_path / "p"
    first = submit()
    wait_for(whole(folder, 4), first)
    ((job, rule),) = cluster.jobs().items()
    assert rule == "rule_train_wildcards_short"
    cluster.run("scancel", job)
    said = first.communicate()[0]
    assert first.returncode == 1, said
    assert mlflow_run(folder).info.status == "KILLED"

    second = submit()
    said = second.communicate()[0]
    assert second.returncode == 0, said
    assert "resuming from checkpoints/short-" in (folder / "logs/train/short.log").read_text()
    assert_same_run(run(workflow(tmp_path / "undisturbed"), *PREPARE, TRAIN), folder)
    assert logged_steps(folder) == STEPS


def test_snakemake_cancels_its_jobs_when_it_is_terminated(cluster, submit, tmp_path):
    folder = tmp_path / "p"
    process = submit()
    wait_for(whole(folder, 4), process)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[0]
    assert process.returncode != 0, said
    assert cluster.jobs() == {}
    assert mlflow_run(folder).info.status == "KILLED"
