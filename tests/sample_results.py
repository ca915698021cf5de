"""Small but whole result files of every stage before the report, for the tests of the report."""

import math
from pathlib import Path
from typing import Any

import pandas as pd
from gsm8k_grpo.compare import compare
from gsm8k_grpo.evaluate import CURVE_SHARES, summarise
from gsm8k_grpo.files import write_json, write_jsonl, write_text
from gsm8k_grpo.params import Params

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
) -> None:
    """Write the files for the variants of the configuration; `steps` are 100 where not given.

    Without `validated` the validation split is empty.
    """
    write_json(
        results / "download" / "source.json",
        {
            "source": params.source,
            "origin": HOSTILE,
            "revision": "r1",
            "licence": "MIT",
            "files": {f"{split}.jsonl": {"rows": QUESTIONS, "sha256": "0" * 64} for split in ("train", "test")},
        },
    )
    write_json(
        results / "extract" / "metrics.json",
        {"train_rows": 32, "validation_rows": QUESTIONS if validated else 0, "test_rows": QUESTIONS},
    )
    write_json(
        results / "base" / "metrics.json", {"parameters": 1234, "distinct_problems": 40, "steps": 10, "seconds": 1.5}
    )
    models = ["base", *params.variants]
    for model in models:
        _write_evaluation(results / "evaluate" / model, right[model], run_ids.get(model, model), params)
        length = 0 if model == "base" else steps.get(model, 100)
        kept = [step for step in params.keep_checkpoints if step < length]
        rows = checkpoints([*kept, length], right["base"], right[model]) if validated else []
        write_jsonl(results / "evaluate" / model / "checkpoints.jsonl", rows)
    for variant in params.variants:
        rewards = list(params.variant_rewards(variant).weights)
        curves = history(steps.get(variant, 100), rewards, kl)
        _write_training(results / "train" / variant, curves, rewards, run_ids.get(variant, variant))
    compare(results / "evaluate", params.runs, results / "compare", params.compare, params.seed)


def answers(strict: int, flexible: int) -> list[dict[str, Any]]:
    return [
        {
            "id": f"test-{index}",
            "question": f"What is {index} and 1? {HOSTILE}",
            "gold": str(index + 1),
            "completion": f"<answer>{index + 1}</answer> & <b>bold</b> {HOSTILE}",
            "strict_correct": index < strict,
            "flexible_correct": index < flexible,
            "format_ok": index < strict,
            "truncated": index == QUESTIONS - 1,
            "completion_tokens": 10 + index,
        }
        for index in range(QUESTIONS)
    ]


def checkpoints(steps: list[int], first: tuple[int, int], last: tuple[int, int]) -> list[dict[str, Any]]:
    """Right answers that rise from those before step 0 to those of the last step."""
    rows = []
    for step in steps:
        risen = 1 - math.exp(-step / 60)
        right = [round(before + risen * (after - before)) for before, after in zip(first, last, strict=True)]
        figures = summarise(answers(*right), resamples=100, seed=0)
        kept = {name: figures[name] for share in CURVE_SHARES for name in (share, f"{share}_ci95")}
        rows.append(
            {"step": step, "prompts_seen": 4 * step, "n": QUESTIONS, **kept}
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


def _write_evaluation(folder: Path, right: tuple[int, int], run_id: str, params: Params) -> None:
    rows = answers(*right)
    write_jsonl(folder / "answers.jsonl", rows)
    probes = [{"question": q, "completion": HOSTILE, "truncated": False} for q in params.evaluate.probes]
    write_jsonl(folder / "probes.jsonl", probes)
    write_json(
        folder / "metrics.json",
        {
            "n": QUESTIONS,
            "n_available": QUESTIONS,
            **summarise(rows, params.compare.resamples, params.seed),
            "decoding": {"greedy": True, "max_completion_length": 80, "one_shot": False},
            "seconds": 2.5,
            "mlflow_run_id": run_id,
            "mlflow_run_key": "key",
        },
    )


def _write_training(folder: Path, curves: pd.DataFrame, rewards: list[str], run_id: str) -> None:
    write_text(folder / "history.csv", curves.to_csv(index=False))
    sample = {"question": HOSTILE, "completion": HOSTILE, "rewards": dict.fromkeys(rewards, 0.5)}
    write_jsonl(folder / "samples.jsonl", [{"step": step, **sample} for step in (1, 1, 51, 51)])
    write_json(
        folder / "metrics.json",
        {
            "steps": len(curves),
            "epochs": 1.5,
            "prompts_seen": 4 * len(curves),
            "prompts": 32,
            "prompts_available": 32,
            "tokens": 5000,
            "reward_first": 0.1,
            "reward_last": 2.0,
            "seconds": 90.0,
            "seconds_generate": 40.0,
            "seconds_score": 1.0,
            "seconds_update": 49.0,
            "peak_memory_gib": 0.5,
            "mlflow_run_id": run_id,
            "mlflow_run_key": "key",
            "effective_config": {"parameters": 1234, "device": "cpu", "learning_rate": 1e-4, "epsilon_high": None},
        },
    )
