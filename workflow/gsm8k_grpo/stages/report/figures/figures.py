"""The report's figures: accuracy (greedy, sampled, over training), its attribution, rewards, training health, time.

A figure consists of panels.  Each panel is one Vega-Lite specification, which the page embeds and which vl-convert
draws into the figure's PNG.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd
import vl_convert

from gsm8k_grpo.analysis.metrics import EXTRACTIONS
from gsm8k_grpo.config.methods import METHODS
from gsm8k_grpo.files import write_bytes
from gsm8k_grpo.records import Attribution, CheckpointMetrics, TrainingMetrics
from gsm8k_grpo.stages.report.figures import bars, curves
from gsm8k_grpo.stages.report.figures.panels import Panel
from gsm8k_grpo.stages.report.results import Results
from gsm8k_grpo.stages.train.history import reward_columns

FONT = "Liberation Sans, Arial, sans-serif"
LEARNING = {
    "strict_accuracy": "strict accuracy",
    "flexible_accuracy": "flexible accuracy",
    "format_rate": "answers in the requested format",
}
HEALTH = {
    "entropy": "entropy of the next token (nats)",
    "surprisal": "-log p of the sampled tokens (nats)",
    "completion_tokens": "tokens per completion",
    "clipped_share": "share of completions cut off at the token limit",
    "zero_variance_share": "share of prompts with equal rewards",
    "grad_norm": "gradient norm",
    "kl": "KL from the base model (nats)",
    "ratio_clipped_share": "share of completions (ppo: tokens) with a clipped ratio",
    "tied_share": "share of prompts without a pair",
    "value_loss": "loss of the values",
    "explained_variance": "share of the returns' variance that values explain",
}
VEGA_LITE = "6.1"  # in 6.4 tooltips of the nearest point show "undefined" for texts (vega-lite pull request 9707)
PNG_SCALE = 2


@dataclass(frozen=True)
class Figure:
    """Panels that belong together.

    Attributes:
        name: the stem of the PNG and the prefix of the panels' ids in the page.
        columns: panels in a row of the PNG.
        panel_width: width of a panel of the PNG, in pixels.
    """

    name: str
    title: str
    caption: str
    panels: list[Panel]
    columns: int
    panel_width: int

    def specifications(self) -> list[dict[str, Any]]:
        """Vega-Lite of each panel, as wide as its container; the page's style sheet sets the background."""
        schema = {"$schema": f"https://vega.github.io/schema/vega-lite/v{VEGA_LITE}.json"}
        panels = [_styled(panel.properties(width="container"), "transparent") for panel in self.panels]
        return [panel.to_dict() | schema for panel in panels]

    def write_png(self, folder: Path) -> Path:
        path = folder / f"{self.name}.png"
        chart = alt.concat(*(panel.properties(width=self.panel_width) for panel in self.panels), columns=self.columns)
        image = BytesIO()
        _styled(chart, "white").save(image, format="png", scale_factor=PNG_SCALE)
        write_bytes(path, image.getvalue())
        return path


@cache
def javascript() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script that needs no network and defines `vegaEmbed`; takes seconds."""
    return vl_convert.javascript_bundle(vl_version=VEGA_LITE)  # type: ignore[call-arg]  # the stub omits a default


def figures(results: Results) -> list[Figure]:
    """The report's figures, without those that the run has no data for."""
    supervised = [name for name, run in results.training.items() if not METHODS[run["method"]].learns_from_rewards]
    rewarded = {name: history for name, history in results.histories.items() if name not in supervised}
    return [
        _accuracy(results),
        _gains(results.attribution),
        *([_sampled(results)] if results.sampled else []),
        *([_learning(results.checkpoints, results.starts)] if results.checkpoints["base"] else []),
        *([_rewards(rewarded)] if rewarded else []),
        _health(results.histories, supervised),
        _timing(results.training),
    ]


def _accuracy(results: Results) -> Figure:
    return Figure(
        "accuracy",
        "Accuracy",
        f"Share of the {results.evaluations['base']['n']:,} test questions answered correctly, with Wilson's 95 % "
        "intervals. "
        f"Strict grades the number {results.answer_place}, flexible the last number of the text.",
        [bars.accuracy(results.evaluations)],
        columns=1,
        panel_width=600,
    )


def _gains(attribution: Sequence[Attribution]) -> Figure:
    return Figure(
        "gains",
        "Where the difference comes from",
        "Questions that only one of the two models answers correctly (strict), as a share of all questions. Right of "
        "zero: newly correct. Left of zero: newly wrong. Format: the last number was correct before and after, so only "
        "the format changed. Answer: the format was correct before and after, so only the number changed. Both: all "
        "other questions.",
        [bars.gains(attribution)],
        columns=1,
        panel_width=600,
    )


def _sampled(results: Results) -> Figure:
    metrics = {model: results.task_metrics(model, "sampled") for model in results.sampled}
    return Figure(
        "sampled",
        "Correct in k samples",
        "pass@k: the probability that at least one of k sampled answers is correct, an unbiased estimate from all "
        "samples of a question. Bands: 95 % intervals.",
        [curves.pass_at_k_curve(metrics, extraction) for extraction in EXTRACTIONS],
        columns=2,
        panel_width=300,
    )


def _timing(training: Mapping[str, TrainingMetrics]) -> Figure:
    return Figure(
        "timing",
        "Where the time goes",
        "Shares of each training run's time. Rest: saving checkpoints, loading, logging.",
        [bars.timing(training)],
        columns=1,
        panel_width=600,
    )


def _learning(checkpoints: Mapping[str, Sequence[CheckpointMetrics]], starts: Mapping[str, str]) -> Figure:
    first = "the base model" if set(starts.values()) == {"base"} else "what training started from"
    return Figure(
        "learning",
        "Accuracy over training",
        f"Greedy answers to the {checkpoints['base'][0]['n']:,} questions of the validation split, which the models "
        f"are not trained on; the test split is not used here. The points of a line are {first} at the left "
        "edge, the kept checkpoints, and the end of the run. Bands: Wilson's 95 % intervals. Point at a curve to see "
        "its step and values.",
        [curves.checkpoint_curve(checkpoints, starts, share, title) for share, title in LEARNING.items()],
        columns=3,
        panel_width=300,
    )


def _rewards(histories: Mapping[str, pd.DataFrame]) -> Figure:
    columns = dict.fromkeys(column for history in histories.values() for column in reward_columns(history))
    titles = {"reward": "total reward (weighted sum)"} | {name: name.removeprefix("reward_") for name in columns}
    return Figure(
        "rewards",
        "Rewards",
        f"Mean reward of the sampled completions, by prompts seen. {curves.CAPTION}",
        [curves.history_curve(histories, column, title) for column, title in titles.items()],
        columns=3,
        panel_width=300,
    )


def _health(histories: Mapping[str, pd.DataFrame], supervised: list[str]) -> Figure:
    titles = {
        column: title
        for column, title in HEALTH.items()
        # A method may have columns that the others lack.
        if any(column in history and history[column].notna().any() for history in histories.values())
    }
    panels = [curves.history_curve(histories, column, title) for column, title in titles.items()]
    if supervised:  # GRPO's loss says nothing about progress
        of_supervised = {name: histories[name] for name in supervised}
        panels.insert(0, curves.history_curve(of_supervised, "loss", "loss on the answers (supervised)"))
    return Figure(
        "training",
        "Training health",
        f"{curves.CAPTION} Nothing is learned from a prompt whose completions all have the same reward.",
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
