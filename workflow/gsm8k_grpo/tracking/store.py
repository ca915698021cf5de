"""The tracking store: how it is opened, and how a run is found in it.

The default store is `tracking/mlflow.db` (sqlite), with artifacts in the same folder; `make ui` shows it.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy
from mlflow import MlflowClient
from mlflow.entities import Experiment, LifecycleStage
from mlflow.exceptions import MlflowException

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.files import first_line
from gsm8k_grpo.runtime import locks
from gsm8k_grpo.tracking.patience import root_cause

FOLDER = Path("tracking")
DATABASE = f"sqlite:///{FOLDER / 'mlflow.db'}"  # in the working folder
LONGEST_REASON = 200  # characters shown of an error of MLflow
OPENING_SECONDS = 60.0  # a new database takes some seconds, and more beside other jobs
KEY = "key"
"""The tag by which a run is found again, see `mlflow_runs.Run`."""


class Deleted(MlflowException):
    """A run or an experiment was deleted in MLflow, which still keeps it but takes no more values for it."""


# A new database logs every step of its creation; the user needs to know only of problems.
for library in ("mlflow.store.db.utils", "alembic"):
    logging.getLogger(library).setLevel(logging.WARNING)


def address(params: Params) -> str:
    """The address of the store, absolute if possible, since MLflow keeps one connection per address.

    SQLAlchemy cuts an address at `?`, which can't be quoted, so a path with `?` stays relative.
    """
    path = (FOLDER / "mlflow.db").resolve()
    return params.tracking.uri or (DATABASE if "?" in str(path) else f"sqlite:///{path}")


def unavailable(error: BaseException) -> str:
    """The message for an error of UNREACHABLE, in one line."""
    if isinstance(error, Deleted):
        return f"tracking: {error.message}"
    return f"tracking: MLflow can't be reached ({first_line(root_cause(error))[:LONGEST_REASON]})"


def connect(params: Params) -> tuple[MlflowClient, str]:
    """The client of the tracking store and the id of the experiment, which is created if it doesn't exist.

    Raises:
        Deleted: if the experiment was deleted.
    """
    FOLDER.mkdir(exist_ok=True)
    with _alone(params):
        client = MlflowClient(address(params))
    experiment = client.get_experiment_by_name(params.tracking.experiment)
    artifacts = None if params.tracking.uri else (FOLDER / "artifacts").resolve().as_uri()
    if experiment is None:
        return client, _create_experiment(client, params.tracking.experiment, artifacts)
    if experiment.lifecycle_stage == LifecycleStage.DELETED:
        raise Deleted(
            f"the experiment {experiment.name} was deleted in MLflow; restore it with `{_mlflow(params)} experiments "
            f"restore --experiment-id {experiment.experiment_id}`, or go on in a new one with another name as "
            "tracking.experiment"
        )
    if artifacts is not None:
        _move_artifacts(experiment, artifacts)
    return client, experiment.experiment_id


@contextmanager
def _alone(params: Params) -> Iterator[None]:
    """No other process of this working folder opens the database meanwhile.

    Whoever opens it first makes its tables.  MLflow does not expect a second process then: it raises a KeyError if jobs
    that run side by side are the first of their project.

    Raises:
        TimeoutError: if another process needs longer than `OPENING_SECONDS`.
    """
    if not address(params).startswith("sqlite:"):
        yield
        return
    lock = locks.lock("tracking")
    if not locks.take(lock, OPENING_SECONDS):
        raise TimeoutError(f"another process has been opening the database for {OPENING_SECONDS:.0f} s")
    try:
        yield
    finally:
        lock.release()


def _create_experiment(client: MlflowClient, name: str, artifacts: str | None) -> str:
    """The id of a new experiment, or of the one that another run created in the meantime."""
    try:
        return client.create_experiment(name, artifact_location=artifacts)
    except MlflowException:
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            raise
        return experiment.experiment_id


def _move_artifacts(experiment: Experiment, present: str) -> None:
    """Give an experiment and its runs the present place of the artifacts, if the project was moved or copied.

    MLflow stores absolute places, has no call that changes them, and would create the old folder again.  A place that
    does not have this project's form was chosen by the user, and stays.
    """
    old = experiment.artifact_location
    if old == present or not old.endswith(f"/{FOLDER}/artifacts"):
        return
    values = {"old": old, "present": present, "experiment": int(experiment.experiment_id)}
    engine = sqlalchemy.create_engine(DATABASE)
    with engine.begin() as connection:
        for column, table in (("artifact_uri", "runs"), ("artifact_location", "experiments")):
            moved = f"UPDATE {table} SET {column} = :present || substr({column}, length(:old) + 1)"
            which = f"experiment_id = :experiment AND substr({column}, 1, length(:old)) = :old"
            connection.execute(sqlalchemy.text(f"{moved} WHERE {which}"), values)
    engine.dispose()


def _mlflow(params: Params) -> str:
    """The command `mlflow` for this store, to be run in the working folder."""
    return f"MLFLOW_TRACKING_URI={params.tracking.uri or DATABASE} mlflow"


def existing_id(client: MlflowClient, run_id: str | None, params: Params) -> str | None:
    """The id, or None if the store has no run of this id, since it is another store.

    Raises:
        Deleted: if the run was deleted.
    """
    if run_id is None:
        return None
    try:
        info = client.get_run(run_id).info
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    if info.lifecycle_stage == LifecycleStage.DELETED:
        raise Deleted(
            f"the run {run_id} of {info.run_name} was deleted in MLflow; restore it with `{_mlflow(params)} runs "
            f"restore --run-id {run_id}`, or go on in a new one after `mlflow gc --backend-store-uri "
            f"{params.tracking.uri or DATABASE} --run-ids {run_id}`"
        )
    return run_id


def newest_with_key(client: MlflowClient, experiment: str, key: str) -> str | None:
    """The id of the newest run with this key, or None."""
    runs = client.search_runs(
        [experiment], f"tags.{KEY} = '{key}'", order_by=["attributes.start_time DESC"], max_results=1
    )
    return runs[0].info.run_id if runs else None
