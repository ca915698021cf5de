"""Curves over the prompts seen: of training's history, a row a step, and of the kept checkpoints' accuracy; and
accuracy over the number of tries.

Each function draws one panel with a line per variant.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

# Paul Tol's bright scheme, legible on white and on black.
COLOURS = ["#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#bbbbbb"]
SMOOTHING = 0.05  # width of the moving mean, as a share of the run's steps
MOST_POINTS = 150  # a curve's points; more than a panel has room for
DRAWN = (
    f"Bold: centred moving mean over {100 * SMOOTHING:.0f} % of the run's steps, fewer at its ends. "
    f"Faint: single steps, at most {MOST_POINTS} of each run. Point at a curve for its values."
)
LOG_FROM = 10  # lengths this far apart would hide the shorter run on a linear axis
HEIGHT = 170

Rows = list[dict[str, Any]]


def of_history(histories: Mapping[str, pd.DataFrame], column: str, title: str) -> alt.LayerChart:
    """A column of history: the moving mean in bold, single steps faint behind it."""
    axis, logarithmic = _prompts_axis(history["prompts_seen"].max() for history in histories.values())
    nearest = _nearest(column)
    placed = alt.Chart(_points(histories, column, logarithmic)).encode(
        x=axis,
        color=_variant_colour(histories),
        tooltip=[
            "variant:N",
            "step:Q",
            "prompts_seen:Q",
            alt.Tooltip("mean:Q", format=".3", title="moving mean"),
            alt.Tooltip("value:Q", format=".3", title="this step"),
        ],
    )
    mean = alt.Y("mean:Q", title=None, axis=alt.Axis(tickCount=4))
    return alt.layer(
        placed.mark_line(opacity=0.25, strokeWidth=1).encode(y="value:Q"),
        placed.mark_line(strokeWidth=2).encode(y=mean),
        placed.mark_point(filled=True, size=50)
        .encode(y=mean, opacity=alt.when(nearest).then(alt.value(1)).otherwise(alt.value(0)))
        .add_params(nearest),
    ).properties(title=title, height=HEIGHT, description=f"{title} over the prompts seen, a line per variant")


def of_checkpoints(checkpoints: Mapping[str, Rows], share: str, title: str) -> alt.LayerChart:
    """A share of checkpoints.jsonl with its interval as a band; every variant's line starts at base."""
    (start,), variants = checkpoints["base"], [model for model in checkpoints if model != "base"]
    rows = [
        {
            "variant": variant,
            "step": row["step"],
            "prompts_seen": row["prompts_seen"],
            "share": row[share],
            "low": row[f"{share}_ci95"][0],
            "high": row[f"{share}_ci95"][1],
        }
        for variant in variants
        for row in [start, *checkpoints[variant]]
    ]
    axis, _ = _prompts_axis(checkpoints[variant][-1]["prompts_seen"] for variant in variants)
    height = alt.Y("share:Q", title=None, axis=alt.Axis(format="%", tickCount=4), scale=alt.Scale(zero=True))
    placed = alt.Chart(pd.DataFrame(rows)).encode(x=axis, color=_variant_colour(variants))
    tooltip = [
        "variant:N",
        "step:Q",
        "prompts_seen:Q",
        alt.Tooltip("share:Q", format=".1%", title=title),
        alt.Tooltip("low:Q", format=".1%", title="95 % interval from"),
        alt.Tooltip("high:Q", format=".1%", title="to"),
    ]
    return alt.layer(
        placed.mark_area(opacity=0.15).encode(y=alt.Y("low:Q", title=None), y2="high:Q"),
        placed.mark_line(strokeWidth=2).encode(y=height),
        placed.mark_point(filled=True, size=60, opacity=1)
        .encode(y=height, tooltip=tooltip)
        .add_params(_nearest(share)),
    ).properties(title=title, height=HEIGHT, description=f"{title} over the prompts seen, a line per variant")


def of_tries(measures: Mapping[str, Rows], parser: str) -> alt.LayerChart:
    """pass@k of one parser over k with its interval as a band, a line per model."""
    prefix = f"{parser}_pass@"
    rows = [
        {
            "model": model,
            "k": int(measure["metric"].removeprefix(prefix)),
            "share": measure["value"],
            "low": measure["ci95"][0],
            "high": measure["ci95"][1],
        }
        for model, found in measures.items()
        for measure in found
        if measure["metric"].startswith(prefix)
    ]
    tries = sorted({row["k"] for row in rows})
    axis = alt.X(
        "k:Q",
        title="tries, k (log scale)",
        scale=alt.Scale(type="log", base=2, nice=False, padding=12),
        axis=alt.Axis(values=tries, grid=False),
    )
    height = alt.Y("share:Q", title=None, axis=alt.Axis(format="%", tickCount=4), scale=alt.Scale(zero=True))
    colour = alt.Color("model:N", title=None, scale=alt.Scale(domain=list(measures), range=["#888888", *COLOURS]))
    placed = alt.Chart(pd.DataFrame(rows)).encode(x=axis, color=colour)
    tooltip = [
        "model:N",
        "k:Q",
        alt.Tooltip("share:Q", format=".1%", title="pass@k"),
        alt.Tooltip("low:Q", format=".1%", title="95 % interval from"),
        alt.Tooltip("high:Q", format=".1%", title="to"),
    ]
    return alt.layer(
        placed.mark_area(opacity=0.15).encode(y=alt.Y("low:Q", title=None), y2="high:Q"),
        placed.mark_line(strokeWidth=2).encode(y=height),
        placed.mark_point(filled=True, size=60, opacity=1).encode(y=height, tooltip=tooltip),
    ).properties(title=f"pass@k, {parser}", height=HEIGHT, description=f"pass@k, {parser}, over k, a line per model")


def smoothing_reach(history: pd.DataFrame) -> int:
    """Steps before and after a step that the moving mean of a run's curves takes in."""
    return round(SMOOTHING * len(history) / 2)


def _prompts_axis(lengths: Iterable[int]) -> tuple[alt.X, bool]:
    """The axis for runs of these lengths in prompts, and whether it is logarithmic; there 0 stands at 1."""
    lengths = list(lengths)
    logarithmic = max(lengths) > LOG_FROM * min(lengths)
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
    """The point next to the pointer, whose values the tooltip tells."""
    return alt.selection_point(name=f"nearest_{name}", nearest=True, on="pointerover", clear="pointerout", empty=False)


def _variant_colour(variants: Iterable[str]) -> alt.Color:
    return alt.Color("variant:N", title=None, scale=alt.Scale(domain=list(variants), range=COLOURS))


def _points(histories: Mapping[str, pd.DataFrame], column: str, logarithmic: bool) -> pd.DataFrame:
    """`variant, step, prompts_seen, value, mean`: at most `MOST_POINTS` rows of each run, even on the axis."""
    spaced = np.geomspace if logarithmic else np.linspace
    parts = []
    for variant, history in histories.items():
        if column not in history or history[column].isna().all():
            continue
        mean = _moving_mean(history[column].to_numpy(), smoothing_reach(history))
        part = history[["step", "prompts_seen"]].assign(variant=variant, value=history[column], mean=mean)
        parts.append(part.iloc[np.unique(spaced(1, len(part), MOST_POINTS).round().astype(int)) - 1])
    return pd.concat(parts).round({"value": 5, "mean": 5})


def _moving_mean(values: np.ndarray, reach: int) -> np.ndarray:
    """The centred mean over `reach` values on both sides; fewer near the start, where a rise would look slower."""
    index = np.arange(len(values))
    sides = np.minimum(reach, index // 4)
    low, high = index - sides, np.minimum(index + sides + 1, len(values))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    return (sums[high] - sums[low]) / (high - low)
