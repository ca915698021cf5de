"""Jobs in pods, by `profiles/kubernetes` and the real plugin, with a server that imitates a cluster's API."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import kubernetes_api
import pytest
from kubernetes_api import container
from project import ROOT
from small_run import mlflow_run, wait_for, whole, workflow

DOWNLOADED = "results/download/source.json"
TRAINED = "results/train/short/metrics.json"
MOUNTED = "/mnt/gsm8k-grpo"  # in the profile
NOTICED_AT_ONCE = ["--latency-wait", "5", "--seconds-between-status-checks", "1"]


@pytest.fixture(scope="module")
def plugin(tmp_path_factory) -> Path:
    """A folder with the packages of envs/kubernetes.txt."""
    folder = tmp_path_factory.mktemp("plugin")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--target", folder]
    done = subprocess.run([*install, "--requirement", ROOT / "envs/kubernetes.txt"], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("the packages of envs/kubernetes.txt can't be installed")
    return folder


@pytest.fixture
def cluster(tmp_path) -> Iterator[kubernetes_api.Cluster]:
    folder = tmp_path / "cluster"
    folder.mkdir()
    with kubernetes_api.running(folder) as running:
        yield running


@pytest.fixture
def project(tmp_path) -> Path:
    """The project, at the path that its profile gives the volume."""
    folder = workflow(tmp_path / "p")
    profile = folder / "profiles/kubernetes/config.yaml"
    profile.write_text(profile.read_text().replace(MOUNTED, str(folder)))
    return folder


@pytest.fixture
def submit(cluster, plugin, project) -> Callable[..., subprocess.Popen[str]]:
    """Starts Snakemake in the project's folder, with the profile for Kubernetes."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{project / 'workflow'}{os.pathsep}{plugin}",
        "KUBECONFIG": str(cluster.folder / "config"),
    }

    def start(target: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["snakemake", target, "--workflow-profile", "profiles/kubernetes", *NOTICED_AT_ONCE], cwd=project,
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip

    return start


@pytest.fixture
def read_by_client(plugin, monkeypatch) -> Callable[[Any], Any]:
    """The manifest of a job that the models of the API's client make of one; they drop fields that the API has not."""
    monkeypatch.syspath_prepend(plugin)
    from kubernetes.client import ApiClient

    def read(manifest: Any) -> Any:
        client = ApiClient()
        return client.sanitize_for_serialization(
            client.deserialize(SimpleNamespace(data=json.dumps(manifest)), "V1Job")
        )

    return read


def test_a_job_without_a_gpu_runs_in_a_pod_and_writes_into_the_volume(cluster, submit, project, read_by_client):
    cluster.without_answer = [503, 500]
    process = submit(DOWNLOADED)
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 0, said
    assert (project / DOWNLOADED).exists()
    assert (project / "logs/download.log").exists()
    (manifest,) = cluster.manifests.values()
    assert read_by_client(manifest) == manifest
    pod, only = manifest["spec"]["template"]["spec"], container(manifest)
    assert only["image"] == "registry.example.com/gsm8k-grpo:cuda"
    assert {"name": "gsm8k-grpo", "mountPath": str(project)} in only["volumeMounts"]
    assert {"name": "gsm8k-grpo", "persistentVolumeClaim": {"claimName": "gsm8k-grpo"}} in pod["volumes"]
    asked = {"cpu": "950m", "memory": "8000M", "ephemeral-storage": "20000M"}
    assert only["resources"] == {"requests": asked, "limits": asked | {"cpu": "1000m"}}
    assert "tolerations" not in pod
    assert cluster.remains == []


def test_a_training_asks_for_one_gpu_and_saves_when_snakemake_cancels_it(
    cluster, submit, project, prepared, read_by_client
):
    for made in ("results", "tracking"):
        shutil.copytree(prepared / made, project / made)
    process = submit(TRAINED)
    wait_for(whole(project, 4), process)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[0]
    assert process.returncode != 0, said
    (manifest,) = cluster.manifests.values()
    assert read_by_client(manifest) == manifest
    pod, only = manifest["spec"]["template"]["spec"], container(manifest)
    assert only["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert only["resources"]["requests"]["nvidia.com/gpu"] == "1"
    assert only["resources"]["requests"]["memory"] == only["resources"]["limits"]["memory"] == "48000M"
    assert [toleration["key"] for toleration in pod["tolerations"]] == ["nvidia.com/gpu"]
    assert cluster.remains == []
    assert mlflow_run(project).info.status == "KILLED"


def test_a_job_that_fails_ends_the_run_and_leaves_the_log_of_its_pod(cluster, submit, project):
    cluster.fails = "download"
    process = submit(DOWNLOADED)
    said = process.communicate()[0]
    assert process.returncode == 1
    (log,) = (project / ".snakemake/auxiliary/kubernetes-logs").iterdir()
    assert log.read_text() == "the last line of the pod\n"
    assert str(log.relative_to(project)) in said
    assert cluster.remains == []
