"""MLflow: one run per model, with parameters, data, curves, finals and the report's figures.

The default store is `tracking/mlflow.db` (sqlite) with artifacts beside it; `make ui` opens it.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import Metric
from mlflow.utils.time import get_current_time_millis

from gsm8k_grpo.files import sha256
from gsm8k_grpo.params import Params

FOLDER = Path("tracking")
MOST_METRICS_A_CALL = 1000  # the limit of MLflow's log-batch call


def git_commit() -> str:
    """The commit of the working tree, with `-dirty` where it has changes; `unknown` outside a repository."""
    described = subprocess.run(
        ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"], capture_output=True, text=True
    )
    return described.stdout.strip() if described.returncode == 0 else "unknown"


def connect(params: Params) -> str:
    """Set the tracking store and return the experiment's id, which is made where it doesn't exist."""
    FOLDER.mkdir(exist_ok=True)
    mlflow.set_tracking_uri(params.tracking.uri or f"sqlite:///{(FOLDER / 'mlflow.db').resolve()}")
    experiment = mlflow.get_experiment_by_name(params.tracking.experiment)
    if experiment is not None:
        return experiment.experiment_id
    artifacts = None if params.tracking.uri else (FOLDER / "artifacts").resolve().as_uri()
    return mlflow.create_experiment(params.tracking.experiment, artifact_location=artifacts)


@contextmanager
def run(params: Params, model: str, logged: dict[str, Any]) -> Iterator[str]:
    """A new MLflow run named after the model; yields its id.  An exception inside marks it FAILED."""
    tags = {"recipe": params.recipe, "model": model, "git_commit": git_commit(), "source": params.source}
    if model in params.variants:
        tags["variant"] = model
    with mlflow.start_run(experiment_id=connect(params), run_name=model, tags=tags) as active:
        mlflow.log_params(_flat(logged))
        yield active.info.run_id


def log_dataset(path: Path, rows: int, context: str) -> None:
    """Name the data a run used: its file, its rows and the digest of its bytes."""
    source = CodeDatasetSource({"file": str(path)})
    dataset = MetaDataset(source, name=f"gsm8k-{path.stem}", digest=sha256(path)[:16])
    mlflow.log_input(dataset, context=context, tags={"rows": str(rows)})


def log_curves(run_id: str, rows: list[dict[str, float]]) -> None:
    """Log rows of history as metrics at their `step`."""
    now = get_current_time_millis()
    metrics = [
        Metric(name, value, now, int(row["step"]))
        for row in rows
        for name, value in row.items()
        if name != "step" and value is not None
    ]
    client = mlflow.MlflowClient()
    for start in range(0, len(metrics), MOST_METRICS_A_CALL):
        client.log_batch(run_id, metrics[start : start + MOST_METRICS_A_CALL])


def log_finals(params: Params, run_id: str, finals: dict[str, float]) -> None:
    """Log evaluation figures on a finished run, named `final_...`."""
    connect(params)
    mlflow.log_metrics({f"final_{name}": value for name, value in finals.items()}, run_id=run_id)


def log_figures(params: Params, run_id: str, figures: list[Path]) -> None:
    connect(params)
    for figure in figures:
        mlflow.log_artifact(str(figure), artifact_path="report", run_id=run_id)


def _flat(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
