"""Panels with one row per model: accuracy with its interval, where a difference comes from, where the time goes."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd

from gsm8k_grpo.analysis import palette
from gsm8k_grpo.analysis.formatting import percent
from gsm8k_grpo.analysis.metrics import ACCURACIES, metric_interval, metric_value
from gsm8k_grpo.records import Attribution, Evaluation, TrainingMetrics
from gsm8k_grpo.stages.compare.attribution import KINDS
from gsm8k_grpo.stages.report.figures.panels import Panel, share_tooltip

MODEL_HEIGHT = 64
BAR_HEIGHT = 36


def accuracy(evaluations: Mapping[str, Evaluation]) -> Panel:
    """Strict and flexible accuracy of each model with its interval: a forest plot."""
    extractions = {metric: metric.removesuffix("_accuracy") for metric in ACCURACIES}
    rows = []
    for model, evaluation in evaluations.items():
        for metric, extraction in extractions.items():
            share = metric_value(evaluation, metric)
            low, high = metric_interval(evaluation, metric)
            rows.append(
                {
                    "model": model,
                    "accuracy": extraction,
                    "share": share,
                    "low": low,
                    "high": high,
                    "label": percent(share),
                }
            )
    names = list(extractions.values())
    chart = alt.Chart(pd.DataFrame(rows)).encode(
        x=alt.X("share:Q", title="share of test questions answered correctly", axis=alt.Axis(format="%", tickCount=6)),
        y=alt.Y("model:N", title=None, sort=list(evaluations), axis=alt.Axis(labelFontSize=13, labelLimit=110)),
        yOffset=alt.YOffset("accuracy:N", sort=names, scale=alt.Scale(paddingOuter=0.5)),
        color=alt.Color("accuracy:N", sort=names, title=None, scale=alt.Scale(range=list(palette.EXTRACTIONS))),
        tooltip=["model:N", "accuracy:N", *share_tooltip("correct")],
    )
    return alt.layer(
        chart.mark_rule(strokeWidth=2).encode(x="low:Q", x2="high:Q"),
        chart.mark_point(filled=True, size=90, opacity=1),
        chart.mark_text(align="left", dx=8, baseline="middle", fontSize=12).encode(x="high:Q", text="label:N"),
    ).properties(
        height=MODEL_HEIGHT * len(evaluations),
        description="Strict and flexible accuracy of each model with 95 % intervals",
    )


def gains(attribution: Sequence[Attribution]) -> Panel:
    """Newly correct and newly wrong questions of each pair of models, by what changed."""
    rows: list[dict[str, Any]] = [
        {
            "models": f"{pair['b']} vs. {pair['a']}",
            "changed": kind,
            "position": KINDS.index(kind),
            "result": result,
            "questions": counts[kind],
            "share": sign * counts[kind] / pair["n"],
        }
        for pair in attribution
        for counts, result, sign in ((pair["fixed"], "newly correct", 1), (pair["broken"], "newly wrong", -1))
        for kind in KINDS
    ]
    pairs = [f"{pair['b']} vs. {pair['a']}" for pair in attribution]
    chart = alt.Chart(pd.DataFrame(rows)).encode(
        y=alt.Y("models:N", title=None, sort=pairs, axis=alt.Axis(labelFontSize=12, labelLimit=170)),
        x=alt.X("share:Q", title="share of questions", axis=alt.Axis(format="%", tickCount=6)),
        color=_part_colour("changed", list(KINDS), palette.CHANGES),
        order=alt.Order("position:Q"),
        tooltip=["models:N", "changed:N", "result:N", "questions:Q", alt.Tooltip("share:Q", format="+.1%")],
    )
    zero = alt.Chart(pd.DataFrame({"share": [0]})).mark_rule(color=palette.BASE).encode(x="share:Q")
    return alt.layer(chart.mark_bar(height=18), zero).properties(
        height=BAR_HEIGHT * len(pairs),
        description="Newly correct and newly wrong questions of each pair of models, by what changed",
    )


def timing(training: Mapping[str, TrainingMetrics]) -> Panel:
    """How each run's time splits into generating, scoring, updating and the rest."""
    rows = []
    names: list[str] = []
    for variant, run in training.items():
        parts = {
            "generate": run["seconds_generate"],
            "score": run["seconds_score"],
            "update": run["seconds_update"],
        }
        parts["rest"] = max(0.0, run["seconds"] - sum(parts.values()))
        names = list(parts)
        rows += [
            {"variant": variant, "part": part, "position": position, "seconds": seconds}
            for position, (part, seconds) in enumerate(parts.items())
        ]
    bar = (
        alt.Chart(pd.DataFrame(rows))
        .mark_bar(height=18)
        .encode(
            y=alt.Y("variant:N", title=None, sort=list(training), axis=alt.Axis(labelFontSize=13, labelLimit=110)),
            x=alt.X("seconds:Q", stack="normalize", title="share of time", axis=alt.Axis(format="%", tickCount=5)),
            color=_part_colour("part", names, palette.TIME),
            order=alt.Order("position:Q"),
            tooltip=["variant:N", "part:N", alt.Tooltip("seconds:Q", format=",.1f")],
        )
    )
    return alt.layer(bar).properties(
        height=BAR_HEIGHT * len(training), description="How the time of each training run splits into its parts"
    )


def _part_colour(field: str, names: Sequence[str], colours: Sequence[str]) -> alt.Color:
    legend = alt.Legend(symbolType="square", symbolStrokeWidth=0, columns=len(names))
    return alt.Color(f"{field}:N", title=None, scale=alt.Scale(domain=list(names), range=list(colours)), legend=legend)
