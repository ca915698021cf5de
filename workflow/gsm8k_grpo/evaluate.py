"""Stage `evaluate`: base and every variant on the test split, with the same prompt, decoding, limit and extractor.

Reads `results/extract/test.jsonl` and a model, writes `results/evaluate/<model>/`: `answers.jsonl` (a row a
question), `probes.jsonl` and `metrics.json`.  A kept checkpoint, such as `short@100`, is a model like any other.

For base and each variant `checkpoints.jsonl` holds the learning curve on the validation split: a row for each kept
step and for the last one; base, which GRPO starts from, is step 0.
"""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from gsm8k_grpo import engines, memory, models
from gsm8k_grpo.engines import Completion, Engine
from gsm8k_grpo.extract import last_number, same_answer, xml_answer
from gsm8k_grpo.files import PipelineError, read_json, read_jsonl, sha256, write_json, write_jsonl
from gsm8k_grpo.params import Params
from gsm8k_grpo.prompts import prompt
from gsm8k_grpo.rewards.robust import well_formed
from gsm8k_grpo.statistics import mean_interval, share_interval
from gsm8k_grpo.tracking import Run, of_results, running

SHARES = {
    "strict_accuracy": "strict_correct",
    "flexible_accuracy": "flexible_correct",
    "format_rate": "format_ok",
    "truncation_rate": "truncated",
}
CURVE_SHARES = ("strict_accuracy", "flexible_accuracy", "format_rate")

Rows = list[dict[str, Any]]


def evaluate(model: str, extracted: Path, base: Path, trained: Path, target: Path, params: Params) -> None:
    """Run the stage for one model of `params.model_names()`; `base` and `trained` are the folders of those stages."""
    torch.set_num_threads(params.threads)
    memory.check(params)
    memory.limit(params)
    rows = read_jsonl(extracted / "test.jsonl")
    if not rows:
        raise PipelineError(
            f"{extracted / 'test.jsonl'}: no question has an answer with a number behind '####', so that none can be "
            "told right from wrong and there is nothing to evaluate. What is trained is in results/train and answers "
            "to `gsm8k-grpo ask`; for an evaluation end answers of test.jsonl in a line such as '#### 72'"
        )
    engine = engines.load(weights(model, base, trained), params)
    limit = params.evaluate.max_completion_length
    began = time.perf_counter()
    answers = ask(engine, rows[: params.evaluate.questions], limit, f"evaluate {model}")
    seconds = time.perf_counter() - began
    probes = engine.complete(
        [prompt(probe, params.extract) for probe in params.evaluate.probes],
        limit,
        f"probes {model}",
    )
    figures = summarise(answers, params.compare.resamples, params.seed)
    write_jsonl(target / "answers.jsonl", answers)
    write_jsonl(
        target / "probes.jsonl",
        [
            {"question": question, "completion": probe.text, "truncated": probe.truncated}
            for question, probe in zip(params.evaluate.probes, probes, strict=True)
        ],
    )
    curve: Rows = []
    if "@" not in model:
        questions = read_jsonl(extracted / "validation.jsonl")
        final = ask(engine, questions, limit, f"validation {model}")
        curve = learning_curve(model, final, questions, engine, base, trained, params)
        write_jsonl(target / "checkpoints.jsonl", curve)
    run = _track(model, figures, curve, base, trained, params)
    write_json(
        target / "metrics.json",
        {
            "n": len(answers),
            "n_available": len(rows),
            **figures,
            "decoding": {"greedy": True, "max_completion_length": limit, "one_shot": params.extract.one_shot},
            "seconds": round(seconds, 2),
            "mlflow_run_id": run.id,
            "mlflow_run_key": run.key,
        },
    )


def weights(model: str, base: Path, trained: Path) -> models.Source:
    """Where the model is that a name of `params.model_names()` means."""
    return models.source(
        read_json(base / "base.json")["model"], None if model == "base" else trained_weights(model, trained)
    )


def trained_weights(model: str, trained: Path) -> Path:
    """The folder of a variant's final weights, or of a kept checkpoint's such as `short@100`."""
    variant, _, step = model.partition("@")
    folder = trained / variant / "checkpoints" / step if step else trained / variant / "model"
    if not folder.is_dir():
        raise PipelineError(f"{folder}: no such folder; it is written by `gsm8k-grpo train --variant {variant}`")
    return folder


def ask(engine: Engine, rows: Rows, limit: int, progress: str) -> Rows:
    """The model's answer to each row of a split, judged."""
    completions = engine.complete([row["prompt"] for row in rows], limit, progress)
    return [judge(row, completion) for row, completion in zip(rows, completions, strict=True)]


def judge(row: dict[str, Any], completion: Completion) -> dict[str, Any]:
    """A row of answers.jsonl: strict reads the tagged answer, flexible the last number whatever the format."""
    return {
        "id": row["id"],
        "question": row["question"],
        "gold": row["answer"],
        "completion": completion.text,
        "strict_correct": same_answer(xml_answer(completion.text), row["answer"]),
        "flexible_correct": same_answer(last_number(completion.text), row["answer"]),
        "format_ok": well_formed(completion.text),
        "truncated": completion.truncated,
        "completion_tokens": completion.tokens,
    }


def summarise(answers: Rows, resamples: int, seed: int) -> dict[str, Any]:
    """Every share with Wilson's interval, the mean length with a bootstrap interval."""
    lengths = [answer["completion_tokens"] for answer in answers]
    return _shares(answers, SHARES) | {
        "mean_completion_tokens": _mean_length(answers),
        "mean_completion_tokens_ci95": mean_interval(lengths, resamples, seed),
    }


def learning_curve(
    model: str, final: Rows, questions: Rows, engine: Engine, base: Path, trained: Path, params: Params
) -> Rows:
    """Rows of checkpoints.jsonl: the kept steps, asked here, and the last step, whose answers are `final`.

    Without questions there are no rows.
    """
    if not questions:
        return []
    seen = _prompts_seen(model, trained)
    answers = {}
    for step in [] if model == "base" else params.kept_steps(model):
        name = f"{model}@{step}"
        engine.use(weights(name, base, trained))
        answers[step] = ask(engine, questions, params.evaluate.max_completion_length, f"validation {name}")
    answers[max(seen)] = final
    return [
        {
            "step": step,
            "prompts_seen": seen[step],
            "n": len(answered),
            **_shares(answered, CURVE_SHARES),
            "mean_completion_tokens": _mean_length(answered),
        }
        for step, answered in answers.items()
    ]


def _prompts_seen(model: str, trained: Path) -> dict[int, int]:
    """Prompts seen up to each step of a model's training; base is at step 0."""
    if model == "base":
        return {0: 0}
    return pd.read_csv(trained / model / "history.csv").set_index("step")["prompts_seen"].to_dict()


def _shares(answers: Rows, names: Iterable[str]) -> dict[str, Any]:
    """Shares of the answers, each with Wilson's interval as `<name>_ci95`."""
    found: dict[str, Any] = {}
    for name in names:
        successes = sum(answer[SHARES[name]] for answer in answers)
        found[name] = successes / len(answers)
        found[f"{name}_ci95"] = share_interval(successes, len(answers))
    return found


def _mean_length(answers: Rows) -> float:
    return sum(answer["completion_tokens"] for answer in answers) / len(answers)


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
