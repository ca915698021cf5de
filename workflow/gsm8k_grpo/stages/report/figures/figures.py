"""The report's figures: accuracy with intervals, sampled, and over training; gains, rewards, training health, time.

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

from gsm8k_grpo.config.methods import METHODS
from gsm8k_grpo.files import write_bytes
from gsm8k_grpo.stages.report.figures import bars, curves
from gsm8k_grpo.stages.report.results import Results
from gsm8k_grpo.stages.train.history import reward_columns

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


def figures(found: Results) -> list[Figure]:
    """Every figure of the report; there is none of what was not measured."""
    supervised = [name for name, run in found.training.items() if not METHODS[run["method"]].learns_from_rewards]
    rewarded = {name: history for name, history in found.histories.items() if name not in supervised}
    return [
        _accuracy(found.evaluations),
        _gains(found.gains),
        *([_sampled(found)] if found.sampled else []),
        *([_learning(found.checkpoints)] if found.checkpoints["base"] else []),
        *([_rewards(rewarded)] if rewarded else []),
        _health(found.histories, supervised),
        _timing(found.training),
    ]


def _accuracy(evaluations: Mapping[str, Mapping[str, Any]]) -> Figure:
    return Figure(
        "accuracy",
        "Accuracy",
        f"Share of the {evaluations['base']['n']:,} test questions answered right, with Wilson's 95 % intervals. "
        "Strict reads the number between the answer tags, flexible the last number of the text.",
        [bars.accuracy(evaluations)],
        columns=1,
        panel_width=600,
    )


def _gains(gains: curves.Rows) -> Figure:
    return Figure(
        "gains",
        "Where the difference comes from",
        "Questions that only one of the two models answers right (strict), as a share of all: to the right those newly "
        "right, to the left those newly wrong. Format: the last number was right before and after, so the form alone "
        "changed. Answer: the form was as asked before and after, so the number alone changed. Both: neither.",
        [bars.gains(gains)],
        columns=1,
        panel_width=600,
    )


def _sampled(found: Results) -> Figure:
    measures = {model: found.measures(model, "sampled") for model in found.sampled}
    return Figure(
        "sampled",
        "Right in k tries",
        "pass@k: the chance that at least one of k sampled answers is right, estimated without bias from all the "
        "samples of a question. Bands: 95 % intervals.",
        [curves.of_tries(measures, parser) for parser in ("strict", "flexible")],
        columns=2,
        panel_width=300,
    )


def _timing(training: Mapping[str, Mapping[str, Any]]) -> Figure:
    return Figure(
        "timing",
        "Where the time goes",
        "Shares of a training run's time. Rest: saving, loading, logging.",
        [bars.timing(training)],
        columns=1,
        panel_width=600,
    )


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


def _health(histories: Mapping[str, pd.DataFrame], supervised: list[str]) -> Figure:
    measured = {
        column: title
        for column, title in HEALTH.items()
        if any(history[column].notna().any() for history in histories.values())
    }
    panels = [curves.of_history(histories, column, title) for column, title in measured.items()]
    if supervised:  # of GRPO the loss says nothing
        learned = {name: histories[name] for name in supervised}
        panels.insert(0, curves.of_history(learned, "loss", "loss on the answers (supervised)"))
    return Figure(
        "training",
        "Training health",
        f"{curves.DRAWN} A prompt whose completions all have the same reward teaches nothing.",
        panels,
        columns=3,
        panel_width=300,
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
