"""Panels with a row for each model: accuracy with its interval, where gains come from, where time goes."""

from collections.abc import Mapping
from typing import Any

import altair as alt
import pandas as pd

from gsm8k_grpo.analysis.formatting import percent
from gsm8k_grpo.analysis.metrics import ACCURACIES
from gsm8k_grpo.stages.compare.attribution import KINDS
from gsm8k_grpo.stages.report.figures.curves import Rows

PARSER_COLOURS = ["#c0458c", "#888888"]  # none of the variants' first colours
# Of Paul Tol's muted scheme, legible on white and on black.
KIND_COLOURS = ["#ddaa33", "#3a8fb7", "#8a6fb0"]
PART_COLOURS = ["#3a8fb7", "#aa3377", "#ddaa33", "#999999"]
PARTS = {"seconds_generate": "generate", "seconds_score": "score", "seconds_update": "update"}
MODEL_HEIGHT = 64
BAR_HEIGHT = 36


def accuracy(evaluations: Mapping[str, Mapping[str, Any]]) -> alt.LayerChart:
    """Strict and flexible accuracy of each model with its interval: a forest plot."""
    kinds = {metric: metric.removesuffix("_accuracy") for metric in ACCURACIES}
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
        color=alt.Color("accuracy:N", sort=list(kinds.values()), title=None, scale=alt.Scale(range=PARSER_COLOURS)),
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


def gains(gains: Rows) -> alt.LayerChart:
    """Newly right and newly wrong questions of each pair of models, by what changed."""
    rows = [
        {
            "compared": f"{pair['b']} against {pair['a']}",
            "changed": kind,
            "place": KINDS.index(kind),
            "result": result,
            "questions": pair[result][kind],
            "share": sign * pair[result][kind] / pair["n"],
        }
        for pair in gains
        for result, sign in (("fixed", 1), ("broken", -1))
        for kind in KINDS
    ]
    pairs = list(dict.fromkeys(row["compared"] for row in rows))
    placed = alt.Chart(pd.DataFrame(rows)).encode(
        y=alt.Y("compared:N", title=None, sort=pairs, axis=alt.Axis(labelFontSize=12, labelLimit=170)),
        x=alt.X("share:Q", title="share of the questions", axis=alt.Axis(format="%", tickCount=6)),
        color=_parts_colour("changed", list(KINDS), KIND_COLOURS),
        order=alt.Order("place:Q"),
        tooltip=["compared:N", "changed:N", "result:N", "questions:Q", alt.Tooltip("share:Q", format="+.1%")],
    )
    zero = alt.Chart(pd.DataFrame({"share": [0]})).mark_rule(color="#888888").encode(x="share:Q")
    return alt.layer(placed.mark_bar(height=18), zero).properties(
        height=BAR_HEIGHT * len(pairs),
        description="Questions newly right and newly wrong between each pair of models, by what changed",
    )


def timing(training: Mapping[str, Mapping[str, Any]]) -> alt.LayerChart:
    """How each run's seconds split into generating, scoring, updating and the rest."""
    rows = []
    for variant, run in training.items():
        parts = {name: run[key] for key, name in PARTS.items()}
        parts["rest"] = max(0.0, run["seconds"] - sum(parts.values()))
        rows += [
            {"variant": variant, "part": part, "place": place, "seconds": seconds}
            for place, (part, seconds) in enumerate(parts.items())
        ]
    names = [*PARTS.values(), "rest"]
    bar = (
        alt.Chart(pd.DataFrame(rows))
        .mark_bar(height=18)
        .encode(
            y=alt.Y("variant:N", title=None, sort=list(training), axis=alt.Axis(labelFontSize=13, labelLimit=110)),
            x=alt.X("seconds:Q", stack="normalize", title="share of the time", axis=alt.Axis(format="%", tickCount=5)),
            color=_parts_colour("part", names, PART_COLOURS),
            order=alt.Order("place:Q"),
            tooltip=["variant:N", "part:N", alt.Tooltip("seconds:Q", format=",.1f")],
        )
    )
    return alt.layer(bar).properties(
        height=BAR_HEIGHT * len(training), description="How the time of each training run splits into its parts"
    )


def _parts_colour(field: str, names: list[str], colours: list[str]) -> alt.Color:
    legend = alt.Legend(symbolType="square", symbolStrokeWidth=0, columns=len(names))
    return alt.Color(f"{field}:N", title=None, scale=alt.Scale(domain=names, range=colours), legend=legend)
