"""`gsm8k-grpo summary`: the accuracies, whether they differ, what training could learn from, and the report's path."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from gsm8k_grpo.analysis.formatting import interval, percent
from gsm8k_grpo.analysis.metrics import ACCURACIES, metric_interval, metric_value
from gsm8k_grpo.analysis.signal import low_signal, signal_lines, training_notes, training_signal
from gsm8k_grpo.analysis.verdict import verdict
from gsm8k_grpo.config.params import Params
from gsm8k_grpo.files import read_json
from gsm8k_grpo.records import Evaluation, TrainingMetrics

SUMMARISED = {
    "strict_number_rate": "questions without an answer that get a number",
    "continuation_exact": "questions continued word for word from the first half",
}


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
            *_further(evaluations),
            "",
            *_signal(evaluations, training, params),
            f"Report: {report}",
            "Curves: make ui",
        ]
    )


def _further(evaluations: Mapping[str, Evaluation]) -> Iterator[str]:
    """Lines about unanswerable questions and about questions known by heart, one for each set that was measured."""
    for name, words in SUMMARISED.items():
        shares: dict[str, list[str]] = {}
        for model, evaluation in evaluations.items():
            for metric in evaluation["measures"]:
                if metric["metric"] == name:
                    shares.setdefault(metric["set"], []).append(f"{model} {percent(metric['value'])}")
        if shares:
            yield from ("", words, *(f"{of_set}: {', '.join(of_models)}" for of_set, of_models in shares.items()))


def _signal(evaluations: dict[str, Evaluation], training: dict[str, TrainingMetrics], params: Params) -> list[str]:
    """What GRPO could learn from, before and during training, and an empty line; no lines without GRPO."""
    before, during = signal_lines(evaluations, params), training_signal(training)
    title = ["share of the prompts whose sampled answers differ in a reward"] if before else []
    notes = [*low_signal(evaluations, params), *([during] if during else []), *training_notes(training)]
    lines = [*title, *before, *notes]
    return [*lines, ""] if lines else []


def _accuracy(evaluation: Evaluation, metric: str) -> str:
    bounds = f"({interval(*metric_interval(evaluation, metric))})"
    return f"{metric.removesuffix('_accuracy')} {percent(metric_value(evaluation, metric)):>7} {bounds:<15}"
