"""Stage `evaluate`: base and every variant answer the same questions, with the same prompts, decoding and grading.

Reads `results/extract` and a model, and writes `results/evaluate/<model>/`:

- `answers.jsonl`: greedy answers to the test split with the training prompt, one row per question (see grading.py);
- `prompts/<prompt>.jsonl` and `sets/<set>.jsonl`: the same for the baseline prompts and for the further test sets;
- `prompts/continuation.jsonl`, with `evaluate.contamination`: how the model continues the questions (continuation.py);
- `sampled.jsonl`: several sampled answers per question of the test split;
- `probes.jsonl`: answers to `evaluate.probes`, not graded;
- `metrics.json`: its `measures` hold every metric with its interval, and its `signal` says how often the rewards of
  sampled answers differ.

A kept checkpoint, such as `short@100`, is evaluated like any other model.

Base and each variant also get `checkpoints.jsonl`, the learning curve on the validation split: one row for each kept
step and one for the last step.  Base, where training starts, is step 0.
"""

import shutil
import tempfile
from pathlib import Path

import pandas as pd
import torch

from gsm8k_grpo.analysis.metrics import CURVE_METRICS, metric_value
from gsm8k_grpo.config.params import Params
from gsm8k_grpo.files import read_json, read_jsonl, sha256, write_json, write_jsonl
from gsm8k_grpo.models import chat_templates, gpu
from gsm8k_grpo.models.engine import Engine, stop_tokens
from gsm8k_grpo.models.trained import weights
from gsm8k_grpo.records import (
    CheckpointMetrics,
    Decoding,
    Evaluation,
    Example,
    GradedAnswer,
    GreedySummary,
    RewardSignal,
)
from gsm8k_grpo.runtime import ranks
from gsm8k_grpo.stages.evaluate.answering import TaskRunner, answer, load_engine
from gsm8k_grpo.stages.evaluate.metrics import curve_point
from gsm8k_grpo.stages.evaluate.requests import build_requests, require_context, with_training_prompt
from gsm8k_grpo.stages.evaluate.tasks import TRAINED, Task
from gsm8k_grpo.tracking.mlflow_runs import Run, of_results, running


def evaluate(model: str, extracted: Path, base: Path, trained: Path, target: Path, params: Params) -> None:
    """Run the stage for one model of `params.model_names()`; `base` and `trained` are the folders of those stages.

    With several ranks, each answers its share of the questions.  All ranks compute the same results, and only those of
    rank 0 are kept.
    """
    if ranks.rank():
        with tempfile.TemporaryDirectory() as folder:
            _answer_all(model, extracted, base, trained, Path(folder), params)
        return
    _answer_all(model, extracted, base, trained, target, params)


def _answer_all(model: str, extracted: Path, base: Path, trained: Path, target: Path, params: Params) -> None:
    torch.set_num_threads(params.threads)
    gpu.require_gpu(params)
    gpu.limit_memory(params)
    test: list[Example] = read_jsonl(extracted / "test.jsonl")
    first, *others = requests = build_requests(test, extracted, params)
    engine = load_engine(weights(model, base, trained), params)
    require_context(requests, engine, params)
    _empty_folders(target)
    runner = TaskRunner(model, engine, target, params)
    summary = runner.run_greedy(first)
    runner.run_sampled(first)
    for other in others:
        runner.run_further(other)
    if params.evaluate.contamination:
        runner.run_continuations([request for request in requests if request.task.prompt == TRAINED])
    runner.run_probes()
    curve: list[CheckpointMetrics] = []
    if "@" not in model:
        curve = learning_curve(model, extracted, engine, base, trained, params)
        write_jsonl(target / "checkpoints.jsonl", curve)
    if ranks.rank():
        return
    run = _track(model, summary, runner.signal, curve, base, trained, params)
    run.log_dataset(extracted / "test.jsonl", len(first.examples), "evaluation")
    evaluation: Evaluation = {
        "n": len(first.examples),
        "n_available": len(test),
        **summary,
        "measures": runner.metrics,
        "signal": runner.signal,
        "decoding": _decoding(engine, params),
        "seconds": runner.timing[0]["seconds"],
        "timing": runner.timing,
        "mlflow_run_id": run.id,
        "mlflow_run_key": run.key,
    }
    write_json(target / "metrics.json", evaluation)


def _empty_folders(target: Path) -> None:
    """Make empty folders for further prompts and sets, and remove the answers of an earlier configuration."""
    for folder in ("prompts", "sets"):
        shutil.rmtree(target / folder, ignore_errors=True)
        (target / folder).mkdir(parents=True)


def _decoding(engine: Engine, params: Params) -> Decoding:
    return {
        "greedy": True,
        "max_completion_length": params.evaluate.max_completion_length,
        "one_shot": params.extract.one_shot,
        "samples": params.evaluate.samples,
        "temperature": params.evaluate.temperature,
        "seed": params.seed,
        "chat_template_kwargs": params.chat_template_kwargs,
        "date": chat_templates.DATE.isoformat(),
        "stop_tokens": stop_tokens(engine.tokenizer),
    }


def learning_curve(
    model: str, extracted: Path, engine: Engine, base: Path, trained: Path, params: Params
) -> list[CheckpointMetrics]:
    """The rows of checkpoints.jsonl, for each kept step and for the last step, whose weights the engine holds.

    Afterwards the engine holds the weights of the last kept step.  Without validation examples there are no rows.
    """
    examples: list[Example] = read_jsonl(extracted / "validation.jsonl")
    requests = with_training_prompt(Task("validation"), examples, params)
    final, _ = answer(requests, engine, params, model)
    if not examples:
        return []
    prompts_seen = _prompts_seen(model, trained)
    answers: dict[int, list[GradedAnswer]] = {}
    for step in [] if model == "base" else params.kept_steps(model):
        if step > max(prompts_seen):  # training was stopped before this step, see `train.stop_without_signal`
            break
        checkpoint = f"{model}@{step}"
        engine.use(weights(checkpoint, base, trained))
        answers[step], _ = answer(requests, engine, params, checkpoint)
    answers[max(prompts_seen)] = final
    return [curve_point(step, prompts_seen[step], rows) for step, rows in answers.items()]


def _prompts_seen(model: str, trained: Path) -> dict[int, int]:
    """The number of prompts that training had used up to each step of a model; base is at step 0."""
    if model == "base":
        return {0: 0}
    history = pd.read_csv(trained / model / "history.csv")
    return {int(step): int(seen) for step, seen in zip(history["step"], history["prompts_seen"], strict=True)}


def curve_metrics(curve: list[CheckpointMetrics]) -> list[dict[str, float]]:
    """The rows of checkpoints.jsonl in the form for MLflow: `validation_<name>` at each step."""
    return [
        {"step": row["step"]} | {f"validation_{name}": metric_value(row, name) for name in CURVE_METRICS}
        for row in curve
    ]


def _track(
    model: str,
    summary: GreedySummary,
    signal: list[RewardSignal],
    curve: list[CheckpointMetrics],
    base: Path,
    trained: Path,
    params: Params,
) -> Run:
    """Log the metrics to the variant's training run; base, which has none, gets a run of its own.

    The metrics of a kept checkpoint are not logged, as they would overwrite those of the final weights.
    """
    if model == "base":
        with running(Run(params, model, f"base-{sha256(base / 'base.json')[:12]}", fresh=True)) as run:
            run.log_params(params.model_dump(include={"seed", "source", "model", "base"}))
            run.log_finals(summary)
            run.log_signal(signal)
            run.log_validation(curve_metrics(curve))
        return run
    variant, _, step = model.partition("@")
    run = of_results(params, variant, read_json(trained / variant / "metrics.json"))
    if not step:
        run.log_finals(summary)
        run.log_signal(signal)
        run.log_validation(curve_metrics(curve))
    return run
