"""The pipeline on a real Slurm cluster, by `profiles/slurm`: jobs are cancelled, requeued, and run on two nodes."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import slurm
from gsm8k_grpo.runtime import ranks
from project import ROOT
from small_run import STEPS, assert_same_run, logged_steps, mlflow_run, snakemake, wait_for, whole, workflow

TRAINED = "results/train/short/metrics.json"
# Small jobs on a small node, whose end is noticed at once.
ON_A_SMALL_NODE = [
    "--slurm-no-account", "--slurm-init-seconds-before-status-checks", "1", "--latency-wait", "5",
    "--default-resources", "mem_mb=500", "runtime=20", "gpus_per_node=1",
    "--set-threads", "base=1", "train=1", "evaluate=1",
    "--set-resources", "base:mem_mb=2000", "train:mem_mb=2000", "evaluate:mem_mb=2000",
]  # fmt: skip


@pytest.fixture(scope="module")
def plugin(tmp_path_factory) -> Path:
    """A folder with the packages of envs/slurm.txt."""
    folder = tmp_path_factory.mktemp("plugin")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder]
    done = subprocess.run([*install, "--requirement", ROOT / "envs/slurm.txt"], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("the packages of envs/slurm.txt can't be installed")
    # It asks Slurm after 1, 11, 21, ... seconds, and these jobs take seconds.
    code = folder / "snakemake_executor_plugin_slurm/__init__.py"
    pace = "max_sleep_time = 180"
    assert pace in code.read_text()
    code.write_text(code.read_text().replace(pace, "max_sleep_time = 1"))
    return folder


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[slurm.Cluster]:
    lacking = slurm.missing()
    if lacking:
        pytest.skip(lacking)
    with slurm.running(tmp_path_factory.mktemp("slurm")) as running:
        yield running


@pytest.fixture
def folder(tmp_path) -> Path:
    """The project's folder."""
    return workflow(tmp_path / "p")


@pytest.fixture
def begin(cluster, plugin, folder) -> Callable[..., subprocess.Popen[str]]:
    """Starts a command in the project's folder, which sees the cluster."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{folder / 'workflow'}{os.pathsep}{plugin}",
    }

    def start(*command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            cluster.command(*command), cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, start_new_session=True,
        )  # fmt: skip

    return start


@pytest.fixture
def submit(begin) -> Callable[..., subprocess.Popen[str]]:
    """Starts Snakemake with the profile for Slurm."""

    def start(target: str = TRAINED, *options: str) -> subprocess.Popen[str]:
        return begin("snakemake", target, "--workflow-profile", "profiles/slurm", *ON_A_SMALL_NODE, *options)

    return start


@pytest.fixture
def ready(folder, prepared) -> Path:
    """The project's folder, with the results of the stages before training."""
    return shutil.copytree(prepared, folder, ignore=shutil.ignore_patterns("params.yaml"), dirs_exist_ok=True)


def job_of(cluster) -> str:
    """The id of the only job, which trains."""
    ((job, rule),) = cluster.jobs().items()
    assert rule == "rule_train_wildcards_short"
    return job


def resumed(folder: Path) -> bool:
    """Whether the present job resumed its training from a checkpoint."""
    log = folder / "logs/train/short.log"
    return log.exists() and "resuming from checkpoints/short-" in log.read_text()


def test_a_requeued_and_then_cancelled_training_saves_and_ends_in_the_bytes_of_a_run_without_slurm(
    cluster, submit, uninterrupted, folder
):
    first = submit()
    wait_for(whole(folder, 4), first)
    cluster.run("scontrol", "requeue", job_of(cluster))
    wait_for(lambda: resumed(folder), first)
    cluster.run("scancel", job_of(cluster))
    said = first.communicate()[0]
    assert first.returncode == 1, said
    assert mlflow_run(folder).info.status == "KILLED"

    second = submit()
    said = second.communicate()[0]
    assert second.returncode == 0, said
    assert resumed(folder)
    assert_same_run(uninterrupted, folder)
    assert logged_steps(folder) == STEPS


def test_snakemake_cancels_its_jobs_when_it_is_terminated(cluster, submit, ready):
    process = submit()
    wait_for(whole(ready, 4), process)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[0]
    assert process.returncode != 0, said
    assert cluster.jobs() == {}
    assert mlflow_run(ready).info.status == "KILLED"


def ranks_by_node() -> dict[str, psutil.Process]:
    """The ranks of the only training with several nodes, by the name of the node."""
    found = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            variables = process.environ()
            if "train" in process.cmdline() and {ranks.NUMBER, ranks.NODES} <= set(variables):
                found[variables["SLURMD_NODENAME"]] = process
    return found


def test_a_rank_that_dies_on_the_second_node_ends_the_training_and_slurm_requeues_it_to_the_bytes_of_one_machine(
    cluster, begin, submit, ready, trained_by_two
):
    """The error names the rank.  `sbatch` starts the first job; Snakemake then resumes the training and evaluates."""
    options = ["--nodes=2", "--gpus=2", "--mem=2000", "--comment=rule_train_wildcards_short", "--output=logs/job"]
    train = "gsm8k-grpo train --variant short --set gpus=2"
    (ready / "logs").mkdir()
    first = begin("sbatch", "--wait", *options, "--wrap", train)
    wait_for(whole(ready, 4), first)
    started = ranks_by_node()
    assert {node: rank.environ()["RANK"] for node, rank in started.items()} == {"one": "0", "two": "1"}
    killed = time.monotonic()
    started["two"].kill()
    first.communicate()
    assert time.monotonic() - killed < 60
    assert first.returncode == 1
    said = (ready / "logs/job").read_text()
    assert "error: rank 1 of 2 was ended by SIGKILL, so the others were stopped" in said.splitlines()[-1]
    assert mlflow_run(ready).info.status == "FAILED"

    second = submit("results/evaluate/short/metrics.json", "--config", "gpus=2")
    wait_for(lambda: resumed(ready) and any(ready.glob("checkpoints/short-*/kept/9")), second)
    cluster.run("scontrol", "requeue", job_of(cluster))
    said = second.communicate()[0]
    assert second.returncode == 0, said
    assert resumed(ready)
    assert_same_run(trained_by_two, ready)
    assert logged_steps(ready) == STEPS
    for file in ("answers.jsonl", "sampled.jsonl", "sets/longer.jsonl", "checkpoints.jsonl", "probes.jsonl"):
        one, two = (folder / "results/evaluate/short" / file for folder in (trained_by_two, ready))
        assert one.read_text() == two.read_text()


def test_gpus_that_the_nodes_cannot_share_are_an_error_before_any_job(folder):
    options = ["--dry-run", "--default-resources", "gpus_per_node=3", "--config", "gpus=4"]
    process = snakemake(folder, TRAINED, *options)
    assert "gpus = 4: a node has 3 (gpus_per_node in the profile)" in process.communicate()[0]
    assert process.returncode == 1
