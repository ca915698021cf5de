"""Stage `evaluate`: base and every variant on the test split, with the same prompt, decoding, limit and extractor.

Reads `results/extract/test.jsonl` and a model, writes `results/evaluate/<model>/`: `answers.jsonl` (a row a
question), `probes.jsonl` and `metrics.json`.
"""

import time
from pathlib import Path
from typing import Any

import torch

from gsm8k_grpo import models, tracking
from gsm8k_grpo.engines import Completion, TransformersEngine
from gsm8k_grpo.extract import last_number, same_answer, xml_answer
from gsm8k_grpo.files import read_json, read_jsonl, write_json, write_jsonl
from gsm8k_grpo.params import Params
from gsm8k_grpo.prompts import chat
from gsm8k_grpo.rewards.robust import well_formed
from gsm8k_grpo.statistics import mean_interval, share_interval

SHARES = {
    "strict_accuracy": "strict_correct",
    "flexible_accuracy": "flexible_correct",
    "format_rate": "format_ok",
    "truncation_rate": "truncated",
}


def evaluate(model: str, extracted: Path, base: Path, trained: Path, target: Path, params: Params) -> None:
    """Run the stage for one model: `base`, or a variant whose folder under `trained` holds its weights."""
    torch.set_num_threads(params.threads)
    is_base = model == "base"
    engine = TransformersEngine(
        *models.load(read_json(base / "base.json")["model"] if is_base else str(trained / model / "model")),
        batch_size=params.evaluate.batch_size,
    )
    rows = read_jsonl(extracted / "test.jsonl")
    asked = rows[: params.evaluate.questions]
    limit = params.evaluate.max_completion_length
    began = time.perf_counter()
    completions = engine.complete([row["prompt"] for row in asked], limit, f"evaluate {model}")
    seconds = time.perf_counter() - began
    answers = [judge(row, completion) for row, completion in zip(asked, completions, strict=True)]
    probes = engine.complete(
        [chat(probe, params.extract.language, params.extract.one_shot) for probe in params.evaluate.probes],
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
    run_id = _track(model, figures, trained, params)
    write_json(
        target / "metrics.json",
        {
            "n": len(answers),
            "n_available": len(rows),
            **figures,
            "decoding": {"greedy": True, "max_completion_length": limit, "one_shot": params.extract.one_shot},
            "seconds": round(seconds, 2),
            "mlflow_run_id": run_id,
        },
    )


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


def summarise(answers: list[dict[str, Any]], resamples: int, seed: int) -> dict[str, Any]:
    """Every share with Wilson's interval, the mean length with a bootstrap interval."""
    figures: dict[str, Any] = {}
    for name, key in SHARES.items():
        successes = sum(answer[key] for answer in answers)
        figures[name] = successes / len(answers)
        figures[f"{name}_ci95"] = share_interval(successes, len(answers))
    lengths = [answer["completion_tokens"] for answer in answers]
    figures["mean_completion_tokens"] = sum(lengths) / len(lengths)
    figures["mean_completion_tokens_ci95"] = mean_interval(lengths, resamples, seed)
    return figures


def _track(model: str, figures: dict[str, Any], trained: Path, params: Params) -> str:
    """Put the figures on the variant's training run; base, which has none, gets a run of its own."""
    finals = {name: value for name, value in figures.items() if isinstance(value, float)}
    if model == "base":
        with tracking.run(params, model, params.model_dump(include={"seed", "source", "model", "base"})) as run_id:
            tracking.log_finals(params, run_id, finals)
        return run_id
    run_id = read_json(trained / model / "metrics.json")["mlflow_run_id"]
    tracking.log_finals(params, run_id, finals)
    return run_id
