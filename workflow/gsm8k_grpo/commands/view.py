"""`gsm8k-grpo view`: set up MLflow's interface to show final metrics first, then curves over the prompts seen.

MLflow's button "Share" stores the view of an experiment, its columns and charts, in a tag of the experiment; an address
with the tag's name opens that view.  This module writes such a tag.  Its fields are defined in mlflow/server/js, in
ExperimentPageUIState.tsx and runs-charts.types.ts.
"""

import json
from typing import Any

from gsm8k_grpo.analysis.metrics import FINAL_METRICS
from gsm8k_grpo.config.params import Params
from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.tracking.patience import UNREACHABLE
from gsm8k_grpo.tracking.store import connect, unavailable

NAME = "gsm8k-grpo"
TAG = f"mlflow.sharedViewState.{NAME}"
UI = "http://127.0.0.1:5000"  # the address of `make ui`
AXIS = "prompts_seen"
COLUMN_WIDTH = 200  # pixels, in which the names of the metrics fit
VALIDATION = ("strict_accuracy", "flexible_accuracy", "format_rate", "mean_completion_tokens")
CURVES = ("reward", "completion_tokens", "clipped_share", "zero_variance_share", "entropy", "loss", "grad_norm")


def view(params: Params) -> str:
    """Store the view in the tracking store, and return the address that opens it.

    Raises:
        PipelineError: if the store can't be reached, or the experiment was deleted.
    """
    try:
        client, experiment = connect(params)
        client.set_experiment_tag(experiment, TAG, json.dumps(state(params)))
    except UNREACHABLE as error:
        raise PipelineError(unavailable(error)) from error
    return f"{params.tracking.uri or UI}/#/experiments/{experiment}/runs?viewStateShareKey={NAME}&compareRunsMode=CHART"


def state(params: Params) -> dict[str, Any]:
    """Columns of the table of runs, and sections of charts; MLflow adds a section for all other metrics."""
    rewards = dict.fromkeys(
        f"reward_{name}" for variant in params.variants for name in params.variant_rewards(variant).weights
    )
    sections = {
        "Final metrics": [_bar(f"final_{name}") for name in FINAL_METRICS],
        "Training, by prompts seen": [_line(name) for name in (*CURVES[:1], *rewards, *CURVES[1:])],
        # The axis is `step`, since MLflow thins out `prompts_seen`, and shows only points for which it has both values.
        "Validation, by step": [_line(f"validation_{name}", axis="step") for name in VALIDATION],
    }
    columns = [f"metrics.`final_{name}`" for name in FINAL_METRICS]
    return {
        "selectedColumns": ["attributes.`Dataset`", *columns, f"metrics.`{AXIS}`", "tags.`recipe`"],
        "columnWidths": dict.fromkeys(columns, COLUMN_WIDTH),
        "compareRunSections": [
            {"uuid": name, "name": name, "display": True, "isReordered": True, "deleted": False, "isGenerated": False}
            for name in sections
        ],
        "compareRunCharts": [
            chart | {"metricSectionId": name} for name, charts in sections.items() for chart in charts
        ],
        "isAccordionReordered": True,
        "globalLineChartConfig": {"xAxisKey": "metric", "selectedXAxisMetricKey": AXIS, "lineSmoothness": 0},
        "orderByKey": "attributes.start_time",
        "orderByAsc": True,
    }


def _bar(metric: str) -> dict[str, Any]:
    return {
        "uuid": metric,
        "type": "BAR",
        "metricKey": metric,
        "runsCountToCompare": 10,
        "deleted": False,
        "isGenerated": False,
    }


def _line(metric: str, axis: str = "metric") -> dict[str, Any]:
    return _bar(metric) | {
        "type": "LINE",
        "selectedMetricKeys": [metric],
        "xAxisKey": axis,
        "selectedXAxisMetricKey": AXIS,
        "useGlobalXaxisKey": axis == "metric",
        "useGlobalLineSmoothing": True,
        "lineSmoothness": 0,
        "scaleType": "linear",
        "xAxisScaleType": "linear",
        "selectedYAxisMetricKey": "metric",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "range": {},
    }
