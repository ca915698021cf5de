"""MLflow: one run per model, with parameters, data, curves, finals and the report's figures.

The default store is `tracking/mlflow.db` (sqlite) with artifacts beside it; `make ui` opens it.  MLflow holds copies
of what stands in the results.  A store that can't be reached is said and stops nothing: a run that is resumed, or
`gsm8k-grpo track`, sends what is missing, and nothing twice.
"""

import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, Literal

from mlflow import MlflowClient
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import DatasetInput, InputTag, Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.utils.time import get_current_time_millis
from sqlalchemy.exc import SQLAlchemyError

from gsm8k_grpo.analysis.metrics import FINAL_METRICS
from gsm8k_grpo.config.params import Params
from gsm8k_grpo.files import PipelineError, sha256
from gsm8k_grpo.runtime import git
from gsm8k_grpo.runtime.interrupts import Interrupted

FOLDER = Path("tracking")
MOST_METRICS_A_CALL = 1000  # the limits of MLflow's log-batch call
MOST_PARAMS_A_CALL = 100
UNREACHABLE = (MlflowException, SQLAlchemyError, OSError)
DVC = {"dvc_experiment": "DVC_EXP_NAME", "dvc_baseline": "DVC_EXP_BASELINE_REV"}  # tag: what `dvc exp run` sets
KEY = "key"
COLOUR = "mlflow.runColor"
COLOURS = ("#888888", "#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee")  # base, then the variants as in the report
Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]
Row = dict[str, float | int | None]

# A server that is away would hold training up for the minutes that MLflow tries again.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")


def _sent(method: Callable[..., None]) -> Callable[..., None]:
    """A method of Run that reaches the store: a store that can't be reached is said once a run of the program."""

    @wraps(method)
    def attempt(self: "Run", *args: Any) -> None:
        try:
            self._open()
            method(self, *args)
        except UNREACHABLE as error:
            reason = str(error).strip().splitlines()[0][:200]
            if self.strict:
                raise PipelineError(f"tracking: MLflow can't be reached ({reason})") from error
            if not self.said:
                print(
                    f"tracking: MLflow can't be reached ({reason}); the work goes on, all of it stands in the results. "
                    "`gsm8k-grpo track` sends what is missing",
                    file=sys.stderr,
                )
            self.said = True

    return attempt


class Run:
    """The MLflow run of one model.

    `key` says what the run is of: the name of a training's checkpoint folder, or the digest of a base model.  A `known`
    id is taken where the store has it; else the newest run with the key, unless the run is `fresh`; else a new one
    is made, with the first thing that is logged.  `strict` raises where the store can't be reached.
    """

    def __init__(
        self, params: Params, model: str, key: str, known: str | None = None, fresh: bool = False, strict: bool = False
    ):
        self.params, self.model, self.key, self.fresh, self.strict = params, model, key, fresh, strict
        self.id = known
        self.said = False
        self._client: MlflowClient | None = None
        self._last_step: dict[str, int] = {}

    @_sent
    def set_status(self, status: Status) -> None:
        if status == "RUNNING":
            self._client.update_run(self.id, status=status)
        elif status != self._client.get_run(self.id).info.status:
            self._client.set_terminated(self.id, status)

    @_sent
    def log_params(self, nested: dict[str, Any]) -> None:
        """Parameters by dotted name, those that the run doesn't have yet."""
        known = self._client.get_run(self.id).data.params
        params = [Param(key, str(value)) for key, value in _flat(nested).items() if key not in known]
        for start in range(0, len(params), MOST_PARAMS_A_CALL):
            self._client.log_batch(self.id, params=params[start : start + MOST_PARAMS_A_CALL])

    @_sent
    def log_dataset(self, path: Path, rows: int, context: str) -> None:
        """Name data that a run used: the file, its rows and the digest of its bytes."""
        source = CodeDatasetSource({"file": str(path)})
        dataset = MetaDataset(source, name=f"gsm8k-{path.stem}", digest=sha256(path)[:16])
        known = [entry.dataset for entry in self._client.get_run(self.id).inputs.dataset_inputs]
        if (dataset.name, dataset.digest) in [(one.name, one.digest) for one in known]:
            return
        tags = [InputTag("mlflow.data.context", context), InputTag("rows", str(rows))]
        self._client.log_inputs(self.id, [DatasetInput(dataset._to_mlflow_entity(), tags)])

    @_sent
    def log_curves(self, rows: list[Row]) -> None:
        """Log rows as metrics at their `step`, those that are newer than what the run has of the first column."""
        if not rows:
            return
        column = next(name for name in rows[0] if name != "step")
        if column not in self._last_step:
            logged = self._client.get_metric_history(self.id, column)
            self._last_step[column] = max((point.step for point in logged), default=-1)
        missing = [row for row in rows if row["step"] > self._last_step[column]]
        now = get_current_time_millis()
        at_once = MOST_METRICS_A_CALL // len(rows[0])  # rows go whole, so that none is half there
        for start in range(0, len(missing), at_once):
            sent = missing[start : start + at_once]
            metrics = [
                Metric(name, value, now, int(row["step"]))
                for row in sent
                for name, value in row.items()
                if name != "step" and value is not None
            ]
            self._client.log_batch(self.id, metrics=metrics)
            self._last_step[column] = sent[-1]["step"]

    @_sent
    def log_finals(self, finals: dict[str, Any]) -> None:
        """Log the shares and means of an evaluation, named `final_...`."""
        self._log_changed([{"step": 0} | {f"final_{name}": finals[name] for name in FINAL_METRICS}])

    @_sent
    def log_validation(self, rows: list[Row]) -> None:
        """Log the figures of kept steps at their `step`."""
        self._log_changed(rows)

    @_sent
    def log_figures(self, figures: list[Path]) -> None:
        for figure in figures:
            self._client.log_artifact(self.id, str(figure), artifact_path="report")

    def _log_changed(self, rows: list[Row]) -> None:
        """Log values where the run doesn't say the same already; what was evaluated anew may differ."""
        names = [name for row in rows[:1] for name in row if name != "step"]
        known = {
            (name, point.step): point.value
            for name in names
            for point in sorted(self._client.get_metric_history(self.id, name), key=lambda point: point.timestamp)
        }
        now = get_current_time_millis()
        changed = [
            Metric(name, row[name], now, int(row["step"]))
            for row in rows
            for name in names
            if known.get((name, row["step"])) != row[name]
        ]
        self._client.log_batch(self.id, changed)

    def _open(self) -> None:
        """Find the run, or make it."""
        if self._client is not None:
            return
        client, experiment = connect(self.params)
        found = _with_id(client, self.id) or (None if self.fresh else _with_key(client, experiment, self.key))
        self.id = found or self._create(client, experiment)
        self._client = client

    def _create(self, client: MlflowClient, experiment: str) -> str:
        """A new run.  Its final figures, not known yet, are its first metrics: MLflow shows metrics in the order in
        which a run got them, and its page that compares runs opens with the first alone."""
        id = client.create_run(experiment, tags=self._tags(), run_name=self.model).info.run_id
        now = get_current_time_millis()
        client.log_batch(id, [Metric(f"final_{name}", math.nan, now, 0) for name in FINAL_METRICS])
        return id

    def _tags(self) -> dict[str, str]:
        tags = {"recipe": self.params.recipe, "model": self.model, "source": self.params.source, KEY: self.key}
        tags |= {"git_commit": git.commit()}
        if self.model in self.params.variants:
            tags["variant"] = self.model
        models = ["base", *self.params.variants]
        if self.model in models:
            tags[COLOUR] = COLOURS[models.index(self.model) % len(COLOURS)]
        return tags | {tag: os.environ[name] for tag, name in DVC.items() if name in os.environ}


@contextmanager
def running(run: Run) -> Iterator[Run]:
    """The run while its work goes on: FINISHED at the end, KILLED by a signal, FAILED by any other error."""
    run.set_status("RUNNING")
    try:
        yield run
    except BaseException as error:
        run.set_status("KILLED" if isinstance(error, Interrupted) else "FAILED")
        raise
    run.set_status("FINISHED")


def of_results(params: Params, model: str, metrics: dict[str, Any], strict: bool = False) -> Run:
    """The run that a metrics.json names."""
    return Run(params, model, metrics["mlflow_run_key"], metrics["mlflow_run_id"], strict=strict)


def connect(params: Params) -> tuple[MlflowClient, str]:
    """The tracking store and the id of the experiment, which is made where it doesn't exist."""
    FOLDER.mkdir(exist_ok=True)
    client = MlflowClient(params.tracking.uri or f"sqlite:///{(FOLDER / 'mlflow.db').resolve()}")
    experiment = client.get_experiment_by_name(params.tracking.experiment)
    if experiment is not None:
        return client, experiment.experiment_id
    artifacts = None if params.tracking.uri else (FOLDER / "artifacts").resolve().as_uri()
    return client, client.create_experiment(params.tracking.experiment, artifact_location=artifacts)


def _with_id(client: MlflowClient, id: str | None) -> str | None:
    """The id where the store has such a run; another store, or one that was removed, doesn't."""
    try:
        return id and client.get_run(id).info.run_id
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def _with_key(client: MlflowClient, experiment: str, key: str) -> str | None:
    found = client.search_runs(
        [experiment], f"tags.{KEY} = '{key}'", order_by=["attributes.start_time DESC"], max_results=1
    )
    return found[0].info.run_id if found else None


def _flat(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
