"""`gsm8k-grpo summary`: the accuracies, whether they differ, what training could learn from, and the report's path."""

from pathlib import Path

from gsm8k_grpo.analysis.formatting import interval, percent
from gsm8k_grpo.analysis.metrics import ACCURACIES, metric_interval, metric_value
from gsm8k_grpo.analysis.signal import low_signal, signal_lines, training_notes, training_signal
from gsm8k_grpo.analysis.verdict import verdict
from gsm8k_grpo.config.params import Params
from gsm8k_grpo.files import read_json
from gsm8k_grpo.records import Evaluation, TrainingMetrics


def summary(results: Path, params: Params) -> str:
    """The lines printed at the end of a run: verdict, accuracies, signal, the report's path, how to see the curves."""
    report = results / "report" / "report.html"
    if not report.is_file():
        return f"There is no report yet; `snakemake --cores 1 report` writes {report}"
    models = ["base", *params.variants]
    evaluations: dict[str, Evaluation] = {
        model: read_json(results / "evaluate" / model / "metrics.json") for model in models
    }
    training: dict[str, TrainingMetrics] = {
        variant: read_json(results / "train" / variant / "metrics.json") for variant in params.variants
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
            *_signal(evaluations, training, params),
            f"Report: {report}",
            "Curves: make ui",
        ]
    )


def _signal(evaluations: dict[str, Evaluation], training: dict[str, TrainingMetrics], params: Params) -> list[str]:
    """What GRPO could learn from, before and during training, and an empty line; nothing without GRPO."""
    before, during = signal_lines(evaluations, params), training_signal(training)
    title = ["share of the prompts whose sampled answers differ in a reward"] if before else []
    notes = [*low_signal(evaluations, params), *([during] if during else []), *training_notes(training)]
    lines = [*title, *before, *notes]
    return [*lines, ""] if lines else []


def _accuracy(evaluation: Evaluation, metric: str) -> str:
    bounds = f"({interval(*metric_interval(evaluation, metric))})"
    return f"{metric.removesuffix('_accuracy')} {percent(metric_value(evaluation, metric)):>7} {bounds:<15}"
