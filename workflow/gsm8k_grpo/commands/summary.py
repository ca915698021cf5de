"""`gsm8k-grpo summary`: the accuracies, whether they differ, and where the report is."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gsm8k_grpo.analysis.formatting import interval, percent
from gsm8k_grpo.analysis.metrics import ACCURACIES
from gsm8k_grpo.analysis.verdict import verdict
from gsm8k_grpo.config.params import Params
from gsm8k_grpo.files import read_json


def summary(results: Path, params: Params) -> str:
    """The lines that end a run: the report's place, the accuracies, the verdict, and how to see the curves."""
    place = results / "report" / "report.html"
    if not place.is_file():
        return f"no report yet: {place} is written by `snakemake --cores 1 report`"
    models = ["base", *params.variants]
    evaluations = {model: read_json(results / "evaluate" / model / "metrics.json") for model in models}
    comparison = read_json(results / "compare" / "comparison.json")
    width = max(map(len, models))
    lines = [
        f"{model:<{width}}  {'  '.join(_accuracy(figures, metric) for metric in ACCURACIES)}"
        for model, figures in evaluations.items()
    ]
    return "\n".join(
        [
            *(verdict(metric, evaluations, comparison) for metric in ACCURACIES),
            "",
            f"accuracy on {evaluations['base']['n']} questions, with 95 % intervals",
            *lines,
            "",
            f"report  {place}",
            "curves  make ui",
        ]
    )


def _accuracy(figures: Mapping[str, Any], metric: str) -> str:
    bounds = f"({interval(*figures[f'{metric}_ci95'])})"
    return f"{metric.removesuffix('_accuracy')} {percent(figures[metric]):>7} {bounds:<15}"
