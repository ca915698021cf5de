"""Curves with one line per variant or model: training history, accuracy of checkpoints, and pass@k.

Each function returns one panel.  History has one row per step; the x axis of history and checkpoints is the number of
prompts seen.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from gsm8k_grpo.analysis import palette
from gsm8k_grpo.analysis.metrics import metric_interval, metric_value
from gsm8k_grpo.records import CheckpointMetrics, TaskMetric
from gsm8k_grpo.stages.report.figures.panels import Panel, line_with_band, prompts_tooltip, share_tooltip

SMOOTHING = 0.05  # width of the moving mean, as a share of the run's steps
MAX_POINTS = 150  # the largest number of points of a curve, which is more than a panel has room for
CAPTION = (
    f"Bold: centred moving mean over {100 * SMOOTHING:.0f} % of the run's steps, over fewer at its ends. "
    f"Faint: single steps, at most {MAX_POINTS} per run. Point at a curve to see its values."
)
LOG_RATIO = 10  # if runs differ by more than this factor in length, a linear axis would hide the shorter one
HEIGHT = 170


def history_curve(histories: Mapping[str, pd.DataFrame], column: str, title: str) -> Panel:
    """A column of history.csv: the moving mean in bold, single steps faint behind it."""
    axis, logarithmic = _prompts_axis(history["prompts_seen"].max() for history in histories.values())
    nearest = _nearest(column)
    chart = alt.Chart(thinned_points(histories, column, logarithmic)).encode(
        x=axis,
        color=_colour("variant", list(histories), palette.VARIANTS),
        tooltip=[
            "variant:N",
            "step:Q",
            prompts_tooltip(),
            alt.Tooltip("mean:Q", format=".3", title="moving mean"),
            alt.Tooltip("value:Q", format=".3", title="this step"),
        ],
    )
    mean = alt.Y("mean:Q", title=None, axis=alt.Axis(tickCount=4))
    return alt.layer(
        chart.mark_line(opacity=0.25, strokeWidth=1).encode(y="value:Q"),
        chart.mark_line(strokeWidth=2).encode(y=mean),
        chart.mark_point(filled=True, size=50)
        .encode(y=mean, opacity=alt.when(nearest).then(alt.value(1)).otherwise(alt.value(0)))
        .add_params(nearest),
    ).properties(title=title, height=HEIGHT, description=f"{title} by prompts seen, one line per variant")


def checkpoint_curve(
    checkpoints: Mapping[str, Sequence[CheckpointMetrics]], starts: Mapping[str, str], share: str, title: str
) -> Panel:
    """A share of checkpoints.jsonl with its interval as a band; every variant's line begins at its start.

    Args:
        starts: what each variant was trained from, see `Results`.
    """
    variants = list(starts)
    rows = []
    for variant in variants:
        for row in [_start(checkpoints, starts[variant]), *checkpoints[variant]]:
            low, high = metric_interval(row, share)
            rows.append(
                {
                    "variant": variant,
                    "step": row["step"],
                    "prompts_seen": row["prompts_seen"],
                    "share": metric_value(row, share),
                    "low": low,
                    "high": high,
                }
            )
    axis, _ = _prompts_axis(checkpoints[variant][-1]["prompts_seen"] for variant in variants)
    chart = alt.Chart(pd.DataFrame(rows)).encode(x=axis, color=_colour("variant", variants, palette.VARIANTS))
    tooltip = [alt.Tooltip("variant:N"), alt.Tooltip("step:Q"), prompts_tooltip(), *share_tooltip(title)]
    return line_with_band(chart, tooltip, _nearest(share)).properties(
        title=title, height=HEIGHT, description=f"{title} by prompts seen, one line per variant"
    )


def _start(checkpoints: Mapping[str, Sequence[CheckpointMetrics]], model: str) -> CheckpointMetrics:
    """The accuracy of the model that a variant was trained from, at step 0 of the variant."""
    name, _, step = model.partition("@")
    row = next(row for row in reversed(checkpoints[name]) if not step or row["step"] == int(step))
    return {**row, "step": 0, "prompts_seen": 0}


def pass_at_k_curve(metrics: Mapping[str, Sequence[TaskMetric]], extraction: str) -> Panel:
    """pass@k with one way of extracting answers, by k, with its interval as a band, one line per model."""
    prefix = f"{extraction}_pass@"
    rows: list[dict[str, Any]] = [
        {
            "model": model,
            "k": int(metric["metric"].removeprefix(prefix)),
            "share": metric["value"],
            "low": metric["ci95"][0],
            "high": metric["ci95"][1],
        }
        for model, of_model in metrics.items()
        for metric in of_model
        if metric["metric"].startswith(prefix)
    ]
    ks = sorted({int(name.removeprefix(prefix)) for name in _names(metrics) if name.startswith(prefix)})
    axis = alt.X(
        "k:Q",
        title="samples per question, k (log scale)",
        scale=alt.Scale(type="log", base=2, nice=False, padding=12),
        axis=alt.Axis(values=ks, grid=False),
    )
    chart = alt.Chart(pd.DataFrame(rows)).encode(x=axis, color=_colour("model", list(metrics), palette.MODELS))
    tooltip = [alt.Tooltip("model:N"), alt.Tooltip("k:Q"), *share_tooltip("pass@k")]
    title = f"pass@k, {extraction}"
    return line_with_band(chart, tooltip).properties(
        title=title, height=HEIGHT, description=f"{title}, by k, one line per model"
    )


def smoothing_reach(history: pd.DataFrame) -> int:
    """Half the width of a run's moving mean: how many steps it covers on either side of a step."""
    return round(SMOOTHING * len(history) / 2)


def moving_mean(values: np.ndarray, reach: int) -> np.ndarray:
    """The centred mean over `reach` values on either side.

    Near the start it takes fewer, since a full window would make a fast rise look slow.
    """
    index = np.arange(len(values))
    sides = np.minimum(reach, index // 4)
    low, high = index - sides, np.minimum(index + sides + 1, len(values))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    return (sums[high] - sums[low]) / (high - low)


def thinned_points(histories: Mapping[str, pd.DataFrame], column: str, logarithmic: bool) -> pd.DataFrame:
    """`variant, step, prompts_seen, value, mean`: at most `MAX_POINTS` rows of each run, evenly spaced on the axis."""
    spacing = np.geomspace if logarithmic else np.linspace
    parts = []
    for variant, history in histories.items():
        if column not in history or history[column].isna().all():
            continue
        measured = history.dropna(subset=[column])  # a skipped step has no gradient norm
        mean = moving_mean(measured[column].to_numpy(), smoothing_reach(history))
        part = measured[["step", "prompts_seen"]].assign(variant=variant, value=measured[column], mean=mean)
        parts.append(part.iloc[np.unique(spacing(1, len(part), MAX_POINTS).round().astype(int)) - 1])
    return pd.concat(parts).round({"value": 5, "mean": 5})


def _prompts_axis(lengths: Iterable[int]) -> tuple[alt.X, bool]:
    """The axis for runs of these lengths in prompts, and whether it is logarithmic; then it shows 0 as 1."""
    lengths = list(lengths)
    logarithmic = max(lengths) > LOG_RATIO * min(lengths)
    axis = alt.X(
        "prompts_seen:Q",
        title="prompts seen (log scale)" if logarithmic else "prompts seen",
        scale=alt.Scale(
            type="log" if logarithmic else "linear",
            domain=[1 if logarithmic else 0, int(max(lengths))],
            clamp=True,
            nice=False,
        ),
        axis=alt.Axis(tickCount=5, grid=False),
    )
    return axis, logarithmic


def _nearest(name: str) -> alt.Parameter:
    """Selects the point next to the pointer, whose values the tooltip shows."""
    return alt.selection_point(name=f"nearest_{name}", nearest=True, on="pointerover", clear="pointerout", empty=False)


def _colour(field: str, names: Sequence[str], colours: Sequence[str]) -> alt.Color:
    return alt.Color(f"{field}:N", title=None, scale=alt.Scale(domain=list(names), range=list(colours)))


def _names(metrics: Mapping[str, Sequence[TaskMetric]]) -> set[str]:
    return {metric["metric"] for of_model in metrics.values() for metric in of_model}
