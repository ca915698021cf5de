"""The tracking store: how it is opened, and how a run is found in it.

The default store is `tracking/mlflow.db` (sqlite), with artifacts in the same folder; `make ui` shows it.
"""

import logging
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from gsm8k_grpo.config.params import Params

FOLDER = Path("tracking")
KEY = "key"
"""The tag by which a run is found again, see `mlflow_runs.Run`."""

# A new database logs every step of its creation; the user needs to know only of problems.
for library in ("mlflow.store.db.utils", "alembic"):
    logging.getLogger(library).setLevel(logging.WARNING)


def connect(params: Params) -> tuple[MlflowClient, str]:
    """The client of the tracking store and the id of the experiment, which is created if it doesn't exist."""
    FOLDER.mkdir(exist_ok=True)
    client = MlflowClient(params.tracking.uri or f"sqlite:///{(FOLDER / 'mlflow.db').resolve()}")
    experiment = client.get_experiment_by_name(params.tracking.experiment)
    if experiment is not None:
        return client, experiment.experiment_id
    artifacts = None if params.tracking.uri else (FOLDER / "artifacts").resolve().as_uri()
    return client, client.create_experiment(params.tracking.experiment, artifact_location=artifacts)


def existing_id(client: MlflowClient, run_id: str | None) -> str | None:
    """The id, or None if the store has no such run: it may be another store, or the run was deleted."""
    try:
        return run_id and client.get_run(run_id).info.run_id
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def newest_with_key(client: MlflowClient, experiment: str, key: str) -> str | None:
    """The id of the newest run with this key, or None."""
    runs = client.search_runs(
        [experiment], f"tags.{KEY} = '{key}'", order_by=["attributes.start_time DESC"], max_results=1
    )
    return runs[0].info.run_id if runs else None
