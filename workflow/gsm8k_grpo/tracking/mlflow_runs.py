"""The MLflow run of a model: parameters, data, curves, final metrics and the report's figures.

If the store can't be reached, a warning says so and the work continues, because the results hold everything.  A resumed
run or `gsm8k-grpo track` later sends what is missing, and nothing twice.
"""

import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, wraps
from pathlib import Path
from typing import Any, Concatenate, Literal, NamedTuple, ParamSpec, cast

from mlflow import MlflowClient
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import DatasetInput, InputTag, Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, ErrorCode
from mlflow.utils.time import get_current_time_millis

from gsm8k_grpo.analysis import palette
from gsm8k_grpo.analysis.metrics import FINAL_METRICS, metric_value
from gsm8k_grpo.config.params import Params
from gsm8k_grpo.files import PipelineError, sha256
from gsm8k_grpo.records import Evaluation, GreedySummary, RewardSignal, TrainingMetrics
from gsm8k_grpo.runtime import git
from gsm8k_grpo.runtime.interrupts import Interrupted
from gsm8k_grpo.tracking.patience import UNREACHABLE, patience
from gsm8k_grpo.tracking.store import KEY, Deleted, connect, existing_id, newest_with_key, unavailable

METRICS_PER_CALL = 1000  # the limits of MLflow's log-batch call
PARAMS_PER_CALL = 100
DVC = {
    "dvc_experiment": "DVC_EXP_NAME",
    "dvc_baseline": "DVC_EXP_BASELINE_REV",
}  # variables of `dvc exp run`, by tag
COLOUR = "mlflow.runColor"
Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]
Rows = Sequence[Mapping[str, float | int | None]]
"""Metrics by name, each row with its `step`."""

Arguments = ParamSpec("Arguments")


class StoredRun(NamedTuple):
    """A run that the store has."""

    client: MlflowClient
    id: str


def _tolerant(
    method: Callable[Concatenate["Run", Arguments], None],
) -> Callable[Concatenate["Run", Arguments], None]:
    """Let a method of Run that needs the store do nothing if the store can't be reached, with one warning per Run.

    While the patience with the store is exhausted, the method does nothing.
    """

    @wraps(method)
    def attempt(self: "Run", *args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        if self.patience.exhausted and not self.strict:
            return
        began = time.monotonic()
        try:
            method(self, *args, **kwargs)
        except UNREACHABLE as error:
            if not isinstance(error, Deleted):  # a deleted run means that the store has answered
                self.patience.waited(time.monotonic() - began)
            self._last_step.clear()  # the store may hold rows that it did not confirm
            if self.strict:
                raise PipelineError(unavailable(error)) from error
            if not self.warned:
                print(
                    f"{unavailable(error)}; the stage continues, and its results are complete without MLflow. "
                    "`gsm8k-grpo track` sends later what is missing",
                    file=sys.stderr,
                )
            self.warned = True

    return attempt


class Run:
    """The MLflow run of one model, which is found or created at the first call of a method.

    Attributes:
        id: the id of the run; None until the run is found or created.

    Args:
        key: identifies what the run tracks: the name of a training's checkpoint folder, or the digest of a base model.
        known: the id of the run to continue, if the store has it; otherwise the newest run with the key is continued.
        fresh: create a run even if there is one with the key.
        strict: raise a PipelineError if the store can't be reached.
    """

    def __init__(
        self, params: Params, model: str, key: str, known: str | None = None, fresh: bool = False, strict: bool = False
    ):
        self.params, self.model, self.key, self.fresh, self.strict = params, model, key, fresh, strict
        self.id = known
        self.warned = False
        self.patience = patience(params.tracking.uri or str(Path.cwd()))
        self._last_step: dict[str, int] = {}

    @_tolerant
    def set_status(self, status: Status) -> None:
        client, run_id = self._stored
        if status == "RUNNING":
            client.update_run(run_id, status=status)
        elif status != client.get_run(run_id).info.status:
            client.set_terminated(run_id, status)

    @_tolerant
    def log_params(self, nested: dict[str, Any]) -> None:
        """Log parameters under their dotted names, except those that the run already has."""
        client, run_id = self._stored
        known = client.get_run(run_id).data.params
        params = [Param(key, str(value)) for key, value in _flat(nested).items() if key not in known]
        for start in range(0, len(params), PARAMS_PER_CALL):
            client.log_batch(run_id, params=params[start : start + PARAMS_PER_CALL])

    @_tolerant
    def log_dataset(self, path: Path, rows: int, context: str) -> None:
        """Log which data the run used: the file, the number of its rows and the digest of its bytes."""
        client, run_id = self._stored
        source = CodeDatasetSource({"file": str(path)})
        # MetaDataset inherits an abstract property that nothing calls here.
        dataset = MetaDataset(source, name=f"gsm8k-{path.stem}", digest=sha256(path)[:16])  # type: ignore[abstract]
        inputs = client.get_run(run_id).inputs
        known = [entry.dataset for entry in inputs.dataset_inputs] if inputs else []
        if (dataset.name, dataset.digest) in [(entry.name, entry.digest) for entry in known]:
            return
        tags = [InputTag("mlflow.data.context", context), InputTag("rows", str(rows))]
        _log_input(client, run_id, DatasetInput(dataset._to_mlflow_entity(), tags))

    @_tolerant
    def log_curves(self, rows: Rows) -> None:
        """Log rows as metrics at their `step`, except those up to the last step that the run already has."""
        client, run_id = self._stored
        if not rows:
            return
        column = next(name for name in rows[0] if name != "step")
        if column not in self._last_step:
            logged = client.get_metric_history(run_id, column)
            self._last_step[column] = max((point.step for point in logged), default=-1)
        missing = [row for row in rows if _step(row) > self._last_step[column]]
        now = get_current_time_millis()
        rows_per_call = METRICS_PER_CALL // len(rows[0])  # only whole rows, so that all columns have the same last step
        for start in range(0, len(missing), rows_per_call):
            batch = missing[start : start + rows_per_call]
            metrics = [
                Metric(name, value, now, _step(row))
                for row in batch
                for name, value in row.items()
                if name != "step" and value is not None
            ]
            client.log_batch(run_id, metrics=metrics)
            self._last_step[column] = _step(batch[-1])

    @_tolerant
    def log_finals(self, summary: GreedySummary) -> None:
        """Log the metrics of the greedy answers to the test split as `final_<name>`."""
        self._log_changed([{"step": 0} | {f"final_{name}": metric_value(summary, name) for name in FINAL_METRICS}])

    @_tolerant
    def log_signal(self, signal: Sequence[RewardSignal]) -> None:
        """Log the share of the prompts whose sampled answers differ in a reward, as `signal_<reward>`."""
        self._log_changed([{"step": 0} | {f"signal_{row['reward']}": row["share"] for row in signal}])

    @_tolerant
    def log_validation(self, rows: Rows) -> None:
        """Log the metrics of checkpoints at their `step`."""
        self._log_changed(rows)

    @_tolerant
    def log_figures(self, figures: list[Path]) -> None:
        client, run_id = self._stored
        for figure in figures:
            client.log_artifact(run_id, str(figure), artifact_path="report")

    def _log_changed(self, rows: Rows) -> None:
        """Log the values that the run doesn't have yet; a new evaluation may have changed them."""
        client, run_id = self._stored
        names = [name for row in rows[:1] for name in row if name != "step"]
        known = {
            (name, point.step): point.value
            for name in names
            for point in sorted(client.get_metric_history(run_id, name), key=lambda point: point.timestamp)
        }
        now = get_current_time_millis()
        changed = [
            Metric(name, metric_value(row, name), now, _step(row))
            for row in rows
            for name in names
            if known.get((name, _step(row))) != row[name]
        ]
        client.log_batch(run_id, changed)

    @cached_property
    def _stored(self) -> StoredRun:
        """The run in the store, found or created."""
        client, experiment = connect(self.params)
        run_id = existing_id(client, self.id, self.params)
        if run_id is None and not self.fresh:
            run_id = newest_with_key(client, experiment, self.key)
        self.id = run_id = run_id or self._create(client, experiment)
        return StoredRun(client, run_id)

    def _create(self, client: MlflowClient, experiment: str) -> str:
        """Create a run, with NaN for the final metrics.

        MLflow shows metrics in the order in which a run got them, and its page that compares runs opens with the first
        one, so the final metrics have to come first, although their values are not known yet.
        """
        run_id = client.create_run(experiment, tags=self._tags(), run_name=self.model).info.run_id
        now = get_current_time_millis()
        client.log_batch(run_id, [Metric(f"final_{name}", math.nan, now, 0) for name in FINAL_METRICS])
        return run_id

    def _tags(self) -> dict[str, str]:
        tags = {"recipe": self.params.recipe, "model": self.model, "source": self.params.source, KEY: self.key}
        tags |= {"git_commit": git.commit()}
        if self.model in self.params.variants:
            tags["variant"] = self.model
        models = ["base", *self.params.variants]
        if self.model in models:
            tags[COLOUR] = palette.MODELS[models.index(self.model) % len(palette.MODELS)]
        return tags | {tag: os.environ[name] for tag, name in DVC.items() if name in os.environ}


@contextmanager
def running(run: Run) -> Iterator[Run]:
    """Keep the run's status: RUNNING in the block, then FINISHED, KILLED after a signal, or FAILED after an error."""
    run.set_status("RUNNING")
    try:
        yield run
    except BaseException as error:
        run.set_status("KILLED" if isinstance(error, Interrupted) else "FAILED")
        raise
    run.set_status("FINISHED")


def of_results(params: Params, model: str, metrics: TrainingMetrics | Evaluation, strict: bool = False) -> Run:
    """The run that a metrics.json names."""
    return Run(params, model, metrics["mlflow_run_key"], metrics["mlflow_run_id"], strict=strict)


def _log_input(client: MlflowClient, run_id: str, dataset: DatasetInput) -> None:
    """Log a dataset that another run of the experiment may log at the same moment.

    MLflow looks for the dataset and inserts it if it is missing.  If another run inserts it in between, the second
    insert is refused as a duplicate (BAD_REQUEST).  The second attempt then finds the dataset of the other run.
    """
    try:
        client.log_inputs(run_id, [dataset])
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(BAD_REQUEST):
            raise
        client.log_inputs(run_id, [dataset])


def _step(row: Mapping[str, float | int | None]) -> int:
    return cast(int, row["step"])


def _flat(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
