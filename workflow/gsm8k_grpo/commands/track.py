"""`gsm8k-grpo track`: send to MLflow the results that it lacks, after its store was unreachable, locked or lost."""

from pathlib import Path

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.files import read_json, read_jsonl
from gsm8k_grpo.stages.evaluate.stage import curve_metrics
from gsm8k_grpo.stages.train import history
from gsm8k_grpo.stages.train.methods import method_of
from gsm8k_grpo.tracking import mlflow_runs


def track(results: Path, params: Params) -> list[str]:
    """Send what MLflow lacks of every model that has results.

    Returns:
        One line per model, which names its MLflow run.

    Raises:
        PipelineError: if the store can't be reached.
    """
    runs = [*params.variants, *params.further_runs]
    evaluated = [model for model in ["base", *runs] if (results / "evaluate" / model / "metrics.json").exists()]
    trained = [run for run in runs if (results / "train" / run / "metrics.json").exists()]
    return [_send(model, results, params.of_run(model)) for model in dict.fromkeys([*evaluated, *trained])]


def _send(model: str, results: Path, params: Params) -> str:
    extracted, training, evaluation = results / "extract", results / "train" / model, results / "evaluate" / model
    tracked = evaluation if model == "base" else training  # the stage whose metrics.json names the run
    run = mlflow_runs.of_results(params, model, read_json(tracked / "metrics.json"), strict=True)
    if model != "base":
        run.log_params(method_of(params.variant_method(model)).mlflow_params(model, params))
        run.log_dataset(extracted / "train.jsonl", read_json(training / "metrics.json")["prompts"], "training")
        run.log_curves(history.read(training / "history.csv"))
    if (evaluation / "metrics.json").exists():
        finals = read_json(evaluation / "metrics.json")
        run.log_dataset(extracted / "test.jsonl", finals["n"], "evaluation")
        run.log_finals(finals)
        run.log_signal(finals["signal"])
        run.log_validation(curve_metrics(read_jsonl(evaluation / "checkpoints.jsonl")))
    if model != "base":
        run.log_figures(sorted((results / "report").glob("*.png")))
    run.set_status("FINISHED")
    return f"{model}: run {run.id}"
