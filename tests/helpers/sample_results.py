"""Small but whole result files of every stage before the report, for the tests of the report."""

import math
from pathlib import Path
from typing import Any

import pandas as pd
from gsm8k_grpo.analysis.metrics import CURVE_SHARES
from gsm8k_grpo.config.params import Params
from gsm8k_grpo.files import write_json, write_jsonl, write_text
from gsm8k_grpo.stages.compare.stage import compare
from gsm8k_grpo.stages.evaluate import metrics
from gsm8k_grpo.stages.evaluate.metrics import summarise
from gsm8k_grpo.stages.evaluate.tasks import tasks

QUESTIONS = 40
HOSTILE = "</script><script>document.title = 'broken'</script><img src=x onerror=\"document.title = 'broken'\">"
# Strictly and flexibly right answers of each model, counted from the first question on.
RIGHT = {"base": (4, 25), "short": (20, 20), "full": (30, 30)}


def write_results(
    results: Path,
    params: Params,
    right: dict[str, tuple[int, int]] = RIGHT,
    run_ids: dict[str, str] = {},
    steps: dict[str, int] = {},
    kl: bool = False,
    validated: bool = True,
    questions: int = QUESTIONS,
    samples: int = 0,
    more_tests: bool = False,
    energy: float | None = None,
    supervised: tuple[str, ...] = (),
) -> None:
    """Write the files for the variants of the configuration; `steps` are 100 where not given.

    Without `validated` the validation split is empty.  `samples` are drawn of each question; `more_tests` are another
    test set and another prompt, with one question in train; `energy` is what each training took, in kWh; the
    variants of `supervised` learned the solutions.
    """
    write_json(
        results / "download" / "source.json",
        {
            "source": params.source,
            "origin": HOSTILE,
            "revision": "r1",
            "licence": "MIT",
            "files": {f"{split}.jsonl": {"rows": questions, "sha256": "0" * 64} for split in ("train", "test")},
        },
    )
    write_json(
        results / "extract" / "metrics.json",
        {"train_rows": 32, "validation_rows": questions if validated else 0, "test_rows": questions},
    )
    sets = {"test": [], "svamp": ["svamp-3"]} if more_tests else {"test": []}
    write_json(
        results / "extract" / "overlap.json",
        [
            {"set": name, "n": questions, "exact": 0, "ngram": len(shared), "size": 13, "examples": shared}
            for name, shared in sets.items()
        ],
    )
    write_json(
        results / "base" / "metrics.json", {"parameters": 1234, "distinct_problems": 40, "steps": 10, "seconds": 1.5}
    )
    write_json(results / "base" / "base.json", {"model": str(results / "base" / "model"), "sha256": {}})
    models = ["base", *params.variants]
    for model in models:
        answered = answers(*right[model], questions)
        measures = greedy_measures(answered, more_tests)
        if samples:
            drawn = sampled(answered, samples)
            write_jsonl(results / "evaluate" / model / "sampled.jsonl", drawn)
            measures += sampled_measures(drawn)
        _write_evaluation(results / "evaluate" / model, answered, measures, run_ids.get(model, model), params)
        for one in tasks(params)[1:]:
            further = elsewhere(answers(*right[model], questions), one.file)
            write_jsonl(results / "evaluate" / model / one.file, further)
        length = 0 if model == "base" else steps.get(model, 100)
        kept = [step for step in params.keep_checkpoints if step < length]
        rows = checkpoints([*kept, length], right["base"], right[model], questions) if validated else []
        write_jsonl(results / "evaluate" / model / "checkpoints.jsonl", rows)
    for variant in params.variants:
        rewards = [] if variant in supervised else list(params.variant_rewards(variant).weights)
        curves = history(steps.get(variant, 100), rewards, kl)
        folder, run_id = results / "train" / variant, run_ids.get(variant, variant)
        if variant in supervised:
            curves = curves.assign(loss=1.5, reward=None)
        _write_training(folder, curves, rewards, run_id, energy, "sft" if variant in supervised else "grpo")
    for run in params.further_runs:
        write_jsonl(results / "evaluate" / run / "answers.jsonl", answers(10, 10, questions))
    compare(results / "evaluate", params.runs, results / "compare", params.compare, params.seed)


def answers(strict: int, flexible: int, questions: int = QUESTIONS) -> list[dict[str, Any]]:
    """The first `strict` are right and in the asked format, the first `flexible` end in the right number."""
    return [
        {
            "id": f"test-{index}",
            "question": f"What is {index} and 1? {HOSTILE}",
            "gold": str(index + 1),
            "completion": _completion(index, index < strict, index < flexible),
            "strict_correct": index < strict,
            "flexible_correct": index < flexible,
            "format_ok": index < strict,
            "harness_strict": strict <= index < flexible,
            "harness_flexible": index < flexible,
            "truncated": index == questions - 1,
            "completion_tokens": 10 + index,
        }
        for index in range(questions)
    ]


def elsewhere(rows: list[dict[str, Any]], file: str) -> list[dict[str, Any]]:
    """The answers as those to another prompt, which asks the same questions, or of another set."""
    name, other_set = Path(file).stem, file.startswith("sets")
    return [
        row | {"id": f"{name}-{row['id']}" if other_set else row["id"], "completion": f"{name}: {row['completion']}"}
        for row in rows
    ]


def _completion(index: int, strict: bool, flexible: bool) -> str:
    said = index + 1 if flexible else index + 2
    if strict:
        return f"<reasoning>\n{index} + 1 = {said} & <b>bold</b>\n</reasoning>\n<answer>\n{said}\n</answer>\n"
    return f"{index} + 1 = {said} {HOSTILE}\n#### {said}"


def greedy_measures(answered: list[dict[str, Any]], more_tests: bool) -> list[dict[str, Any]]:
    asked = [("test", "trained"), *([("test", "8-shot"), ("svamp", "trained")] if more_tests else [])]
    summary = summarise(answered, resamples=100, seed=0)
    return [
        {"set": name, "prompt": prompt, "decoding": "greedy"} | measure
        for name, prompt in asked
        for measure in metrics.greedy(summary, len(answered))
    ]


def sampled(answered: list[dict[str, Any]], samples: int) -> list[dict[str, Any]]:
    """Of a question that is answered right every second sample is, of the others none."""
    return [
        {key: row[key] for key in ("id", "question", "gold")}
        | {
            "strict_answers": [row["gold"] if row["strict_correct"] and i % 2 else None for i in range(samples)],
            "flexible_answers": [row["gold"] if row["flexible_correct"] and i % 2 else "0" for i in range(samples)],
            "strict_correct": [row["strict_correct"] and bool(i % 2) for i in range(samples)],
            "flexible_correct": [row["flexible_correct"] and bool(i % 2) for i in range(samples)],
            "completion_tokens": [20] * samples,
        }
        for row in answered
    ]


def sampled_measures(drawn: list[dict[str, Any]]) -> list[dict[str, Any]]:
    common = {"set": "test", "prompt": "trained", "decoding": "sampled"}
    return [common | measure for measure in metrics.sampled(drawn, resamples=100, seed=0)]


def checkpoints(
    steps: list[int], first: tuple[int, int], last: tuple[int, int], questions: int
) -> list[dict[str, Any]]:
    """Right answers that rise from those before step 0 to those of the last step."""
    rows = []
    for step in steps:
        risen = 1 - math.exp(-step / 60)
        right = [round(before + risen * (after - before)) for before, after in zip(first, last, strict=True)]
        figures = summarise(answers(*right, questions), resamples=100, seed=0)
        kept = {name: figures[name] for share in CURVE_SHARES for name in (share, f"{share}_ci95")}
        rows.append(
            {"step": step, "prompts_seen": 4 * step, "n": questions, **kept}
            | {"mean_completion_tokens": figures["mean_completion_tokens"]}
        )
    return rows


def history(steps: int, rewards: list[str], kl: bool = False) -> pd.DataFrame:
    """Rewards that rise from 0 to 1."""
    rows = []
    for step in range(1, steps + 1):
        rise = 1 - math.exp(-step / 20)
        row = {
            "step": step,
            "prompts_seen": 4 * step,
            "epoch": step / 200,
            "reward": len(rewards) * rise,
            "reward_std": 1.0,
            "zero_variance_share": rise / 2,
            "kl": rise if kl else None,
            "entropy": 1 - rise,
            "completion_tokens": 40 + rise,
            "clipped_share": 0.0,
            "grad_norm": 1.0,
        }
        rows.append(row | {f"reward_{name}": rise for name in rewards})
    return pd.DataFrame(rows)


def _write_evaluation(
    folder: Path, rows: list[dict[str, Any]], measures: list[dict[str, Any]], run_id: str, params: Params
) -> None:
    write_jsonl(folder / "answers.jsonl", rows)
    probes = [{"question": q, "completion": HOSTILE, "truncated": False} for q in params.evaluate.probes]
    write_jsonl(folder / "probes.jsonl", probes)
    write_json(
        folder / "metrics.json",
        {
            "n": len(rows),
            "n_available": len(rows),
            **summarise(rows, params.compare.resamples, params.seed),
            "measures": measures,
            "decoding": {"greedy": True, "max_completion_length": 80, "one_shot": False, "temperature": 1.0},
            "seconds": 2.5,
            "mlflow_run_id": run_id,
            "mlflow_run_key": f"key-{run_id}",
        },
    )


def _write_training(
    folder: Path, curves: pd.DataFrame, rewards: list[str], run_id: str, energy: float | None, method: str
) -> None:
    write_text(folder / "history.csv", curves.to_csv(index=False))
    sample = {"question": HOSTILE, "completion": HOSTILE, "rewards": dict.fromkeys(rewards, 0.5)}
    write_jsonl(folder / "samples.jsonl", [{"step": step, **sample} for step in (1, 1, 51, 51) if rewards])
    write_json(
        folder / "metrics.json",
        {
            "method": method,
            "steps": len(curves),
            "epochs": 1.5,
            "prompts_seen": 4 * len(curves),
            "prompts": 32,
            "prompts_available": 32,
            "tokens": 5000,
            "reward_first": 0.1,
            "reward_last": 2.0 if rewards else None,
            "seconds": 90.0,
            "seconds_generate": 40.0,
            "seconds_score": 1.0,
            "seconds_update": 49.0,
            "peak_memory_gib": 0.5,
            "energy_kwh": energy,
            "mlflow_run_id": run_id,
            "mlflow_run_key": f"key-{run_id}",
            "effective_config": {"parameters": 1234, "device": "cpu", "learning_rate": 1e-4, "epsilon_high": None},
        },
    )
