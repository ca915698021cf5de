"""The report's charts: accuracy with intervals, rewards and training health over the prompts seen.

A figure is a row of panels.  Each panel is one Vega-Lite specification, which the page embeds and which
vl-convert draws into the figure's PNG.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import vl_convert

from gsm8k_grpo.compare import METRICS
from gsm8k_grpo.summary import percent

# Paul Tol's bright scheme, legible on white and on black.
COLOURS = ["#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#bbbbbb"]
ACCURACY_COLOURS = ["#c0458c", "#888888"]  # none of the variants' first colours
FONT = "Liberation Sans, Arial, sans-serif"
HEALTH = {
    "entropy": "entropy of the next token (nats)",
    "completion_tokens": "tokens a completion",
    "clipped_share": "share of completions cut at the limit",
    "zero_variance_share": "share of prompts with equal rewards",
    "grad_norm": "norm of the gradient",
    "kl": "KL from the base model (nats)",
}
SMOOTHING = 0.05  # width of the moving mean, as a share of the run's steps
MOST_POINTS = 150  # a curve's points; more than a panel has room for
DRAWN = (
    f"Bold: centred moving mean over {100 * SMOOTHING:.0f} % of the run's steps, fewer at its ends. "
    f"Faint: single steps, at most {MOST_POINTS} of each run. Point at a curve for its values."
)
LOG_FROM = 10  # lengths this far apart would hide the shorter run on a linear axis
MODEL_HEIGHT, CURVE_HEIGHT = 64, 170
PNG_SCALE = 2


@dataclass(frozen=True)
class Figure:
    """Panels that are read together; `name` is the stem of the PNG, which has `columns` of `panel_width` pixels."""

    name: str
    title: str
    caption: str
    panels: list[alt.LayerChart]
    columns: int
    panel_width: int

    def specifications(self) -> list[dict[str, Any]]:
        """Vega-Lite of each panel as wide as the page lets it be; the page's style sheet sets the background."""
        return [_styled(panel.properties(width="container"), "transparent").to_dict() for panel in self.panels]

    def write_png(self, folder: Path) -> Path:
        path = folder / f"{self.name}.png"
        beside = path.with_name(path.name + ".part")
        chart = alt.concat(*(panel.properties(width=self.panel_width) for panel in self.panels), columns=self.columns)
        folder.mkdir(parents=True, exist_ok=True)
        _styled(chart, "white").save(beside, format="png", scale_factor=PNG_SCALE)
        beside.replace(path)
        return path


@cache
def javascript() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script that needs no network and defines `vegaEmbed`; seconds to make."""
    return vl_convert.javascript_bundle(vl_version=".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2]))


def figures(evaluations: Mapping[str, Mapping[str, Any]], histories: Mapping[str, pd.DataFrame]) -> list[Figure]:
    """Every figure of the report.

    Args:
        evaluations: `metrics.json` of each model, base first.
        histories: `history.csv` of each variant.
    """
    rewards = dict.fromkeys(
        column
        for history in histories.values()
        for column in history
        if column.startswith("reward_") and column != "reward_std"
    )
    totals = {"reward": "reward, the weighted sum"} | {name: name.removeprefix("reward_") for name in rewards}
    measured = {
        column: title
        for column, title in HEALTH.items()
        if any(history[column].notna().any() for history in histories.values())
    }
    return [
        Figure(
            "accuracy",
            "Accuracy",
            "Strict and flexible accuracy with Wilson's 95 % intervals.",
            [_accuracy(evaluations)],
            columns=1,
            panel_width=600,
        ),
        Figure(
            "rewards",
            "Rewards",
            f"Mean reward of the sampled completions over the prompts seen. {DRAWN}",
            [_curve(histories, column, title) for column, title in totals.items()],
            columns=3,
            panel_width=300,
        ),
        Figure(
            "training",
            "Training health",
            f"{DRAWN} A prompt whose completions all have the same reward teaches nothing.",
            [_curve(histories, column, title) for column, title in measured.items()],
            columns=3,
            panel_width=300,
        ),
    ]


def smoothing_reach(history: pd.DataFrame) -> int:
    """Steps before and after a step that the moving mean of a run's curves takes in."""
    return round(SMOOTHING * len(history) / 2)


def _accuracy(evaluations: Mapping[str, Mapping[str, Any]]) -> alt.LayerChart:
    kinds = {metric: metric.removesuffix("_accuracy") for metric in METRICS}
    rows = [
        {
            "model": model,
            "accuracy": kind,
            "share": figures[metric],
            "low": figures[f"{metric}_ci95"][0],
            "high": figures[f"{metric}_ci95"][1],
            "shown": percent(figures[metric]),
        }
        for model, figures in evaluations.items()
        for metric, kind in kinds.items()
    ]
    placed = alt.Chart(pd.DataFrame(rows)).encode(
        x=alt.X("share:Q", title="share of the test questions answered right", axis=alt.Axis(format="%", tickCount=6)),
        y=alt.Y("model:N", title=None, sort=list(evaluations), axis=alt.Axis(labelFontSize=13, labelLimit=110)),
        yOffset=alt.YOffset("accuracy:N", sort=list(kinds.values()), scale=alt.Scale(paddingOuter=0.5)),
        color=alt.Color("accuracy:N", sort=list(kinds.values()), title=None, scale=alt.Scale(range=ACCURACY_COLOURS)),
        tooltip=[
            "model:N",
            "accuracy:N",
            alt.Tooltip("share:Q", format=".1%"),
            alt.Tooltip("low:Q", format=".1%", title="95 % interval from"),
            alt.Tooltip("high:Q", format=".1%", title="to"),
        ],
    )
    return alt.layer(
        placed.mark_rule(strokeWidth=2).encode(x="low:Q", x2="high:Q"),
        placed.mark_point(filled=True, size=90, opacity=1),
        placed.mark_text(align="left", dx=8, baseline="middle", fontSize=12).encode(x="high:Q", text="shown:N"),
    ).properties(
        height=MODEL_HEIGHT * len(evaluations),
        description="Strict and flexible accuracy of each model with 95 % intervals",
    )


def _curve(histories: Mapping[str, pd.DataFrame], column: str, title: str) -> alt.LayerChart:
    """A column of history over the prompts seen: the moving mean in bold, single steps faint behind it."""
    lengths = [history["prompts_seen"].max() for history in histories.values()]
    logarithmic = max(lengths) > LOG_FROM * min(lengths)
    nearest = alt.selection_point(
        name=f"nearest_{column}", nearest=True, on="pointerover", clear="pointerout", empty=False
    )
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
    placed = alt.Chart(_points(histories, column, logarithmic)).encode(
        x=axis,
        color=alt.Color("variant:N", title=None, scale=alt.Scale(domain=list(histories), range=COLOURS)),
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
    ).properties(title=title, height=CURVE_HEIGHT, description=f"{title} over the prompts seen, a line per variant")


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


def _styled(chart: alt.TopLevelMixin, background: str) -> alt.TopLevelMixin:
    return (
        chart.configure(background=background, font=FONT)
        .configure_view(stroke=None)
        .configure_axis(
            labelFontSize=11, titleFontSize=11, titleFontWeight="normal", domain=False, ticks=False, gridColor="#ddd"
        )
        .configure_axisX(labelFlush=True)
        .configure_title(fontSize=12, anchor="start", fontWeight="bold")
        .configure_legend(
            orient="top", columns=3, labelFontSize=12, symbolType="stroke", symbolStrokeWidth=3, symbolOpacity=1
        )
    )
