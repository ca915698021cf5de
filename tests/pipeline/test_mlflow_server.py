"""Two trainings in two folders, as on two machines, log to one MLflow server at the same time."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow_ui import PATIENCE, listening
from project import free_ports
from small_run import stage, start

VARIANTS = {"short": 4, "full": 8}  # steps
FEW_STEPS = {"variants__short__max_steps": 4, "variants__full__epochs": 1, "keep_checkpoints": "[]"}


@pytest.fixture
def server(tmp_path) -> Iterator[str]:
    """The address of a server with a new database, which passes on artifacts, as docs/howto.md starts it."""
    (port,) = free_ports(1)
    command = [
        "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db", "--artifacts-destination", tmp_path / "artifacts",
    ]  # fmt: skip
    environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"}
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", *command], cwd=tmp_path, env=environment, start_new_session=True
    )
    deadline = time.monotonic() + PATIENCE
    while not listening(port):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    yield f"http://127.0.0.1:{port}"
    os.killpg(process.pid, signal.SIGKILL)  # after SIGTERM it waits for its connections
    process.wait()


def test_trainings_at_the_same_time_have_runs_of_their_own_with_whole_curves_and_figures(server, prepared, tmp_path):
    at_server = FEW_STEPS | {"tracking__uri": server}
    machines = {variant: shutil.copytree(prepared, tmp_path / f"with {variant}") for variant in VARIANTS}
    trainings = [start(folder, f"train --variant {variant}", **at_server) for variant, folder in machines.items()]
    for training in trainings:
        said, _ = training.communicate()
        assert training.returncode == 0, said
        assert "tracking:" not in said
    figure = machines["full"] / "results/report/figure.png"
    figure.parent.mkdir()
    figure.write_bytes(b"figure")
    assert stage(machines["full"], "track", **at_server).returncode == 0

    client = MlflowClient(server)
    (experiment,) = client.search_experiments(filter_string="name = 'gsm8k-grpo'")
    runs = {run.info.run_name: run.info for run in client.search_runs([experiment.experiment_id])}
    assert {name: run.status for name, run in runs.items()} == dict.fromkeys(VARIANTS, "FINISHED")
    for variant, steps in VARIANTS.items():
        curve = client.get_metric_history(runs[variant].run_id, "reward_correctness")
        assert [point.step for point in curve] == list(range(1, steps + 1))
    stored = Path(tmp_path, "artifacts", experiment.experiment_id, runs["full"].run_id)
    assert (stored / "artifacts/report/figure.png").read_bytes() == b"figure"
