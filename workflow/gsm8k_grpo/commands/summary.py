"""`gsm8k-grpo summary`: the accuracies, whether they differ, and the path of the report."""

from pathlib import Path

from gsm8k_grpo.analysis.formatting import interval, percent
from gsm8k_grpo.analysis.metrics import ACCURACIES, metric_interval, metric_value
from gsm8k_grpo.analysis.verdict import verdict
from gsm8k_grpo.config.params import Params
from gsm8k_grpo.files import read_json
from gsm8k_grpo.records import Evaluation


def summary(results: Path, params: Params) -> str:
    """The lines printed at the end of a run: verdict, accuracies, the report's path, and how to see the curves."""
    report = results / "report" / "report.html"
    if not report.is_file():
        return f"There is no report yet; `snakemake --cores 1 report` writes {report}"
    models = ["base", *params.variants]
    evaluations: dict[str, Evaluation] = {
        model: read_json(results / "evaluate" / model / "metrics.json") for model in models
    }
    comparison = read_json(results / "compare" / "comparison.json")
    width = max(map(len, models))
    lines = [
        f"{model:<{width}}  {'  '.join(_accuracy(evaluation, metric) for metric in ACCURACIES)}"
        for model, evaluation in evaluations.items()
    ]
    return "\n".join(
        [
            *(verdict(metric, evaluations, comparison) for metric in ACCURACIES),
            "",
            f"accuracy on {evaluations['base']['n']:,} questions, with 95 % intervals",
            *lines,
            "",
            f"Report: {report}",
            "Curves: make ui",
        ]
    )


def _accuracy(evaluation: Evaluation, metric: str) -> str:
    bounds = f"({interval(*metric_interval(evaluation, metric))})"
    return f"{metric.removesuffix('_accuracy')} {percent(metric_value(evaluation, metric)):>7} {bounds:<15}"
