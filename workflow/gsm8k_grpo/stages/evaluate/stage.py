"""Stage `evaluate`: base and every variant on the same questions, with the same prompts, decoding, limit and extractor.

Reads `results/extract` and a model, writes `results/evaluate/<model>/`, rows as `judge.py` makes them:

- `answers.jsonl`: the test split, greedy, with the training prompt; a row a question;
- `prompts/<prompt>.jsonl` and `sets/<set>.jsonl`: the same with the baseline prompts, and of the further test sets;
- `sampled.jsonl`: several sampled answers a question of the test split;
- `probes.jsonl`, and `metrics.json`, whose `measures` have every figure with its interval.

A kept checkpoint, such as `short@100`, is a model like any other.

For base and each variant `checkpoints.jsonl` holds the learning curve on the validation split: a row for each kept
step and for the last one; base, which GRPO starts from, is step 0.
"""

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from gsm8k_grpo.analysis.metrics import CURVE_SHARES
from gsm8k_grpo.config.params import Params
from gsm8k_grpo.files import PipelineError, read_json, read_jsonl, sha256, write_json, write_jsonl
from gsm8k_grpo.models import gpu, loading
from gsm8k_grpo.models.engine import Engine
from gsm8k_grpo.stages.evaluate import answering
from gsm8k_grpo.stages.evaluate.answering import TaskRunner, answer
from gsm8k_grpo.stages.evaluate.metrics import mean_length, shares
from gsm8k_grpo.stages.evaluate.requests import Requests, as_trained, build_requests, require_context
from gsm8k_grpo.stages.evaluate.tasks import Task
from gsm8k_grpo.tracking.mlflow_runs import Run, of_results, running

Rows = list[dict[str, Any]]


def evaluate(model: str, extracted: Path, base: Path, trained: Path, target: Path, params: Params) -> None:
    """Run the stage for one model of `params.model_names()`; `base` and `trained` are the folders of those stages."""
    torch.set_num_threads(params.threads)
    gpu.require_gpu(params)
    gpu.limit_memory(params)
    test = read_jsonl(extracted / "test.jsonl")
    first, *others = build_requests(test, extracted, params)
    engine = answering.load_engine(weights(model, base, trained), params)
    require_context([first, *others], engine, params)
    for folder in ("prompts", "sets"):
        shutil.rmtree(target / folder, ignore_errors=True)  # what an earlier configuration asked
        (target / folder).mkdir(parents=True)
    asking = TaskRunner(model, engine, target, params)
    figures = asking.greedily(first)
    asking.sampled(first)
    for one in others:
        asking.greedily(one)
    asking.probes()
    curve: Rows = []
    if "@" not in model:
        questions = as_trained(Task("validation"), read_jsonl(extracted / "validation.jsonl"), params)
        final = answer(engine, questions, params, model)
        curve = learning_curve(model, final, questions, engine, base, trained, params)
        write_jsonl(target / "checkpoints.jsonl", curve)
    run = _track(model, figures, curve, base, trained, params)
    run.log_dataset(extracted / "test.jsonl", len(first.rows), "evaluation")
    write_json(
        target / "metrics.json",
        {
            "n": len(first.rows),
            "n_available": len(test),
            **figures,
            "measures": asking.measures,
            "decoding": _decoding(params),
            "seconds": asking.timing[0]["seconds"],
            "timing": asking.timing,
            "mlflow_run_id": run.id,
            "mlflow_run_key": run.key,
        },
    )


def _decoding(params: Params) -> dict[str, Any]:
    return {
        "greedy": True,
        "max_completion_length": params.evaluate.max_completion_length,
        "one_shot": params.extract.one_shot,
        "samples": params.evaluate.samples,
        "temperature": params.evaluate.temperature,
        "seed": params.seed,
    }


def weights(model: str, base: Path, trained: Path) -> loading.Source:
    """Where the model is that a name of `params.model_names()` means."""
    return loading.source(
        read_json(base / "base.json")["model"], None if model == "base" else trained_weights(model, trained)
    )


def trained_weights(model: str, trained: Path) -> Path:
    """The folder of a variant's final weights, or of a kept checkpoint's such as `short@100`."""
    variant, _, step = model.partition("@")
    folder = trained / variant / "checkpoints" / step if step else trained / variant / "model"
    if not folder.is_dir():
        raise PipelineError(f"{folder}: no such folder; it is written by `gsm8k-grpo train --variant {variant}`")
    return folder


def learning_curve(
    model: str, final: Rows, questions: Requests, engine: Engine, base: Path, trained: Path, params: Params
) -> Rows:
    """Rows of checkpoints.jsonl: the kept steps, asked here, and the last step, whose answers are `final`.

    Without questions there are no rows.
    """
    if not questions.rows:
        return []
    seen = _prompts_seen(model, trained)
    answers = {}
    for step in [] if model == "base" else params.kept_steps(model):
        name = f"{model}@{step}"
        engine.use(weights(name, base, trained))
        answers[step] = answer(engine, questions, params, name)
    answers[max(seen)] = final
    return [
        {
            "step": step,
            "prompts_seen": seen[step],
            "n": len(answered),
            **shares(answered, CURVE_SHARES),
            "mean_completion_tokens": mean_length(answered),
        }
        for step, answered in answers.items()
    ]


def _prompts_seen(model: str, trained: Path) -> dict[int, int]:
    """Prompts seen up to each step of a model's training; base is at step 0."""
    if model == "base":
        return {0: 0}
    return pd.read_csv(trained / model / "history.csv").set_index("step")["prompts_seen"].to_dict()


def curve_metrics(curve: Rows) -> Rows:
    """Rows of checkpoints.jsonl as MLflow gets them: `validation_...` at each step."""
    names = (*CURVE_SHARES, "mean_completion_tokens")
    return [{"step": row["step"]} | {f"validation_{name}": row[name] for name in names} for row in curve]


def _track(model: str, figures: dict[str, Any], curve: Rows, base: Path, trained: Path, params: Params) -> Run:
    """Put the figures on the variant's training run; base, which has none, gets a run of its own.

    A kept checkpoint's figures are not logged: they would stand in the place of the final ones.
    """
    if model == "base":
        with running(Run(params, model, f"base-{sha256(base / 'base.json')[:12]}", fresh=True)) as run:
            run.log_params(params.model_dump(include={"seed", "source", "model", "base"}))
            run.log_finals(figures)
            run.log_validation(curve_metrics(curve))
        return run
    variant, _, step = model.partition("@")
    run = of_results(params, variant, read_json(trained / variant / "metrics.json"))
    if not step:
        run.log_finals(figures)
        run.log_validation(curve_metrics(curve))
    return run
