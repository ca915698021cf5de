"""The report's figures: accuracy with intervals, and over training; rewards and training health.

A figure is a row of panels.  Each panel is one Vega-Lite specification, which the page embeds and which
vl-convert draws into the figure's PNG.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd
import vl_convert

from gsm8k_grpo import curves
from gsm8k_grpo.compare import METRICS
from gsm8k_grpo.files import write_bytes
from gsm8k_grpo.history import reward_columns
from gsm8k_grpo.summary import percent

ACCURACY_COLOURS = ["#c0458c", "#888888"]  # none of the variants' first colours
FONT = "Liberation Sans, Arial, sans-serif"
LEARNING = {
    "strict_accuracy": "strict accuracy",
    "flexible_accuracy": "flexible accuracy",
    "format_rate": "answers in the asked format",
}
HEALTH = {
    "entropy": "entropy of the next token (nats)",
    "completion_tokens": "tokens a completion",
    "clipped_share": "share of completions cut at the limit",
    "zero_variance_share": "share of prompts with equal rewards",
    "grad_norm": "norm of the gradient",
    "kl": "KL from the base model (nats)",
}
VEGA_LITE = "6.1"  # in 6.4 the tooltip of the nearest point says "undefined" for a text (vega-lite pull request 9707)
MODEL_HEIGHT = 64
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
        schema = {"$schema": f"https://vega.github.io/schema/vega-lite/v{VEGA_LITE}.json"}
        panels = [_styled(panel.properties(width="container"), "transparent") for panel in self.panels]
        return [panel.to_dict() | schema for panel in panels]

    def write_png(self, folder: Path) -> Path:
        path = folder / f"{self.name}.png"
        chart = alt.concat(*(panel.properties(width=self.panel_width) for panel in self.panels), columns=self.columns)
        picture = BytesIO()
        _styled(chart, "white").save(picture, format="png", scale_factor=PNG_SCALE)
        write_bytes(path, picture.getvalue())
        return path


@cache
def javascript() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script that needs no network and defines `vegaEmbed`; seconds to make."""
    return vl_convert.javascript_bundle(vl_version=VEGA_LITE)


def figures(
    evaluations: Mapping[str, Mapping[str, Any]],
    checkpoints: Mapping[str, curves.Rows],
    histories: Mapping[str, pd.DataFrame],
) -> list[Figure]:
    """Every figure of the report; without a validation split there is none over the kept checkpoints.

    Args:
        evaluations: `metrics.json` of each model, base first.
        checkpoints: `checkpoints.jsonl` of each model, base first.
        histories: `history.csv` of each variant.
    """
    accuracy = Figure(
        "accuracy",
        "Accuracy",
        "Strict and flexible accuracy with Wilson's 95 % intervals.",
        [_accuracy(evaluations)],
        columns=1,
        panel_width=600,
    )
    learning = [_learning(checkpoints)] if checkpoints["base"] else []
    return [accuracy, *learning, _rewards(histories), _health(histories)]


def _learning(checkpoints: Mapping[str, curves.Rows]) -> Figure:
    return Figure(
        "learning",
        "Accuracy over training",
        f"Greedy answers to the {checkpoints['base'][0]['n']:,} questions of the validation split, which are not "
        "trained on; the test split was not used here. The points of a line are the base model at the left edge, "
        "the kept checkpoints, and the end of the run. Bands: Wilson's 95 % intervals. Point at a curve for its "
        "steps and values.",
        [curves.of_checkpoints(checkpoints, share, title) for share, title in LEARNING.items()],
        columns=3,
        panel_width=300,
    )


def _rewards(histories: Mapping[str, pd.DataFrame]) -> Figure:
    columns = dict.fromkeys(column for history in histories.values() for column in reward_columns(history))
    totals = {"reward": "reward, the weighted sum"} | {name: name.removeprefix("reward_") for name in columns}
    return Figure(
        "rewards",
        "Rewards",
        f"Mean reward of the sampled completions over the prompts seen. {curves.DRAWN}",
        [curves.of_history(histories, column, title) for column, title in totals.items()],
        columns=3,
        panel_width=300,
    )


def _health(histories: Mapping[str, pd.DataFrame]) -> Figure:
    measured = {
        column: title
        for column, title in HEALTH.items()
        if any(history[column].notna().any() for history in histories.values())
    }
    return Figure(
        "training",
        "Training health",
        f"{curves.DRAWN} A prompt whose completions all have the same reward teaches nothing.",
        [curves.of_history(histories, column, title) for column, title in measured.items()],
        columns=3,
        panel_width=300,
    )


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
