"""The tracking store: in any folder, in a moved or copied project, and with runs and experiments that were deleted."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest
from gsm8k_grpo.commands.view import view
from gsm8k_grpo.config.params import Params
from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.tracking.mlflow_runs import Run
from gsm8k_grpo.tracking.store import address, connect
from mlflow import MlflowClient
from sqlalchemy import event
from sqlalchemy.orm import Session

FOLDER = "it's a ü & b #1 50%41"


# MLflow remembers for a whole process where a run's artifacts are, so another process makes these runs.
MAKE_RUNS = """
from pathlib import Path
from gsm8k_grpo.config.params import load
from gsm8k_grpo.tracking.mlflow_runs import Run
for key in ("moved", "copied"):
    Run(load(), "short", key, strict=True).log_figures([Path("figure.png")])
"""


@pytest.fixture(scope="module")
def tracked(root, tmp_path_factory) -> Path:
    """A project with two runs, in a folder whose name needs quoting in many places."""
    folder = tmp_path_factory.mktemp("tracked") / FOLDER
    folder.mkdir()
    shutil.copy(root / "params.yaml", folder)
    (folder / "figure.png").write_bytes(b"figure")
    subprocess.run([sys.executable, "-c", MAKE_RUNS], cwd=folder, check=True)
    return folder


@pytest.fixture
def project(tracked, tmp_path, monkeypatch) -> Path:
    """A copy of `tracked`, which is the working folder."""
    copy = shutil.copytree(tracked, tmp_path / f"copy of {FOLDER}")
    monkeypatch.chdir(copy)
    return copy


def log_figure(params: Params, key: str) -> str:
    run = Run(params, "short", key, strict=True)
    run.log_figures([Path("figure.png")])
    assert run.id is not None
    return run.id


def figures(folder: Path) -> list[Path]:
    return sorted(folder.glob("tracking/artifacts/*/artifacts/report/figure.png"))


def restore(message: str) -> None:
    """Run the command that a message names."""
    (command,) = re.findall(r"`(MLFLOW_TRACKING_URI=.+? mlflow .+? restore .+?)`", message)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(command, shell=True, env=os.environ | {"PATH": path}, check=True)


def test_the_store_is_in_a_folder_of_any_name(tracked):
    assert (tracked / "tracking/mlflow.db").stat().st_size > 0
    assert len(figures(tracked)) == 2
    assert [path.name for path in tracked.parent.iterdir()] == [FOLDER]


def test_the_store_is_in_a_folder_with_a_question_mark(small, tmp_path, monkeypatch):
    folder = tmp_path / "b?c"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "figure.png").write_bytes(b"figure")
    log_figure(small, "one")
    assert len(figures(folder)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["b?c"]
    assert (folder / "tracking/mlflow.db").stat().st_size > 0


def test_a_moved_project_keeps_its_figures_in_the_present_place(project, small, monkeypatch):
    elsewhere = project.rename(project.parent / "moved")
    monkeypatch.chdir(elsewhere)
    shutil.rmtree(elsewhere / "tracking/artifacts")
    log_figure(small, "moved")
    log_figure(small, "new")
    assert len(figures(elsewhere)) == 2
    assert [path.name for path in elsewhere.parent.iterdir()] == ["moved"]
    for run in MlflowClient(address(small)).search_runs(["1"]):
        assert run.info.artifact_uri == f"{elsewhere.as_uri()}/tracking/artifacts/{run.info.run_id}/artifacts"


def test_a_copy_leaves_the_original_alone(tracked, project, small):
    shutil.rmtree(project / "tracking/artifacts")
    before = (tracked / "tracking/mlflow.db").read_bytes()
    log_figure(small, "copied")
    assert len(figures(project)) == 1
    assert (tracked / "tracking/mlflow.db").read_bytes() == before


def test_artifacts_in_a_place_that_the_user_chose_stay_there(project, small, tmp_path):
    own = small.model_copy(update={"tracking": small.tracking.model_copy(update={"experiment": "own"})})
    MlflowClient(address(small)).create_experiment("own", artifact_location=(tmp_path / "own").as_uri())
    log_figure(own, "two")
    assert len([*(tmp_path / "own").rglob("figure.png")]) == 1


def test_a_deleted_run_is_named_with_the_command_that_restores_it(project, small, capsys):
    run_id = log_figure(small, "one")
    MlflowClient(address(small)).delete_run(run_id)
    with pytest.raises(PipelineError, match=rf"the run {run_id} of short was deleted in MLflow; restore it") as error:
        Run(small, "short", "one", run_id, strict=True).set_status("FINISHED")
    Run(small, "short", "one", run_id).set_status("FINISHED")
    assert capsys.readouterr().err.startswith(f"tracking: the run {run_id} of short was deleted")
    restore(str(error.value))
    Run(small, "short", "one", run_id, strict=True).set_status("FINISHED")
    assert MlflowClient(address(small)).get_run(run_id).info.lifecycle_stage == "active"


def test_a_deleted_experiment_is_named_with_the_command_that_restores_it(project, small, capsys):
    _, experiment = connect(small)
    MlflowClient(address(small)).delete_experiment(experiment)
    deleted = rf"^tracking: the experiment {small.tracking.experiment} was deleted in MLflow; restore it"
    with pytest.raises(PipelineError, match=deleted) as error:
        view(small)
    with pytest.raises(PipelineError, match=deleted):
        log_figure(small, "one")
    Run(small, "short", "one").set_status("RUNNING")
    assert re.match(deleted, capsys.readouterr().err)
    restore(str(error.value))
    assert view(small).startswith("http://127.0.0.1:5000/")


def test_the_view_of_a_server_that_is_away_is_an_error_of_one_line(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    away = small.model_copy(update={"tracking": small.tracking.model_copy(update={"uri": "http://127.0.0.1:9"})})
    with pytest.raises(PipelineError, match=r"^tracking: MLflow can't be reached \([^\n]*\)$"):
        view(away)


def test_an_experiment_that_another_machine_creates_at_the_same_moment_is_used(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    create = MlflowClient.create_experiment

    def create_after_another(client: MlflowClient, name: str, **options) -> str:
        create(client, name, **options)
        return create(client, name, **options)

    monkeypatch.setattr(MlflowClient, "create_experiment", create_after_another)
    client, experiment = connect(small)
    assert client.get_experiment(experiment).name == small.tracking.experiment


def test_processes_that_are_the_first_of_a_project_side_by_side_all_get_a_run(root, tmp_path):
    shutil.copy(root / "params.yaml", tmp_path)
    code = "import sys; from gsm8k_grpo.config.params import load; from gsm8k_grpo.tracking.mlflow_runs import Run; "
    code += "Run(load(), 'short', sys.argv[1], strict=True).set_status('RUNNING')"
    processes = [
        subprocess.Popen([sys.executable, "-c", code, key], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        for key in ("first", "second", "third")
    ]
    said = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], said
    runs = MlflowClient(f"sqlite:///{tmp_path}/tracking/mlflow.db").search_runs(["1"])
    assert {run.data.tags["key"] for run in runs} == {"first", "second", "third"}


def test_a_dataset_that_another_run_logs_at_the_same_moment_is_logged_for_both(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("train.jsonl").write_text("a row\n")
    runs = [Run(small, "short", key, strict=True) for key in ("first", "second")]
    for run in runs:
        run.set_status("RUNNING")

    def log_the_second(*_event: object) -> None:
        """Between MLflow's look for the first run's dataset and its insertion."""
        other = Thread(target=runs[1].log_dataset, args=(Path("train.jsonl"), 1, "training"))
        other.start()
        other.join()

    event.listen(Session, "before_flush", log_the_second, once=True)
    runs[0].log_dataset(Path("train.jsonl"), 1, "training")
    client, _ = connect(small)
    for run in runs:
        (logged,) = client.get_run(run.id).inputs.dataset_inputs
        assert logged.dataset.name == "gsm8k-train"
