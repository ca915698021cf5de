"""Small but complete result files of every stage before the report, for the tests of report, card and summary."""

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from gsm8k_grpo.analysis.metrics import GREEDY_METRICS
from gsm8k_grpo.config.params import Params
from gsm8k_grpo.files import write_json, write_jsonl, write_text
from gsm8k_grpo.records import (
    BaseMetrics,
    BaseModelFile,
    CheckpointMetrics,
    Evaluation,
    ExtractMetrics,
    GradedAnswer,
    GradedSamples,
    Method,
    Overlap,
    Probe,
    Source,
    TaskInfo,
    TaskMetric,
    TrainingMetrics,
    TrainingSample,
    TrainingWarning,
)
from gsm8k_grpo.stages.compare.stage import compare
from gsm8k_grpo.stages.evaluate.continuation import row
from gsm8k_grpo.stages.evaluate.metrics import (
    continuation_metrics,
    curve_point,
    greedy_metrics,
    number_rates,
    sampled_metrics,
    summarise,
)
from gsm8k_grpo.stages.evaluate.tasks import tasks

QUESTIONS = 40
HOSTILE = "</script><script>document.title = 'broken'</script><img src=x onerror=\"document.title = 'broken'\">"
# How many answers of each model are strictly and flexibly correct, counted from the first question.
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
    probed: bool = False,
    energy: float | None = None,
    supervised: tuple[str, ...] = (),
    signal: dict[str, dict[str, float]] = {},
    warnings: dict[str, list[TrainingWarning]] = {},
    stopped: dict[str, int] = {},
) -> None:
    """Write the result files of the configuration's models.

    Args:
        results: the folder of all stages.
        params: the configuration.
        right: each model's strictly and flexibly correct answers, as RIGHT.
        run_ids: MLflow's run id of a model; by default the model's name.
        steps: the length of a variant's training; by default 100.
        kl: whether the training history has a KL term.
        validated: whether the validation split has questions.
        questions: questions of the test split.
        samples: sampled answers per question.
        more_tests: whether there are metrics of a further test set and prompt; a question of that set is in train.
        probed: whether there are metrics of unanswerable questions and of the contamination probe.
        energy: energy of each training run in kWh.
        supervised: variants that learned the solutions.
        signal: of a model, the share of the prompts whose sampled answers differ, by reward.
        warnings: those of a variant's training.
        stopped: the step after which a variant was stopped.
    """
    _write_data(results, params, questions if validated else 0, questions, more_tests)
    for model in ["base", *params.variants]:
        rows = answers(*right[model], questions)
        folder = results / "evaluate" / model
        metrics = _greedy_metrics(rows, more_tests)
        if probed:
            metrics += _probe_metrics(rows)
        if samples:
            sampled = sampled_answers(rows, samples)
            write_jsonl(folder / "sampled.jsonl", sampled)
            metrics += _sampled_metrics(sampled)
        _write_evaluation(folder, rows, metrics, run_ids.get(model, model), params, signal.get(model, {}))
        length = 0 if model == "base" else steps.get(model, 100)
        kept = [step for step in params.keep_checkpoints if step < length]
        curve = checkpoints([*kept, length], right["base"], right[model], questions) if validated else []
        write_jsonl(folder / "checkpoints.jsonl", curve)
    for variant in params.variants:
        method: Method = "sft" if variant in supervised else "grpo"
        rewards = list(params.variant_rewards(variant).weights) if method == "grpo" else []
        columns = history(steps.get(variant, 100), rewards, kl)
        if method == "sft":
            columns = columns.assign(loss=1.5, reward=None)
        folder, run_id = results / "train" / variant, run_ids.get(variant, variant)
        _write_training(
            folder, columns, rewards, run_id, energy, method, warnings.get(variant, []), stopped.get(variant)
        )
    for run in params.further_runs:
        write_jsonl(results / "evaluate" / run / "answers.jsonl", answers(10, 10, questions))
    compare(results / "evaluate", params.runs, results / "compare", params.compare, params.seed)


def _write_data(results: Path, params: Params, validation: int, questions: int, more_tests: bool) -> None:
    """The files of the stages download, extract and base."""
    source: Source = {
        "source": params.source,
        "origin": HOSTILE,
        "revision": "r1",
        "licence": "MIT",
        "files": {f"{split}.jsonl": {"rows": questions, "sha256": "0" * 64} for split in ("train", "test")},
    }
    write_json(results / "download" / "source.json", source)
    rows: ExtractMetrics = {
        "train_rows": 32, "validation_rows": validation, "test_rows": questions, "copies": {"train": 0, "test": 0},
        "validation_copies_left_out": 0,
    }  # fmt: skip
    write_json(results / "extract" / "metrics.json", rows)
    shared: dict[str, list[str]] = {"test": [], "svamp": ["svamp-3"]} if more_tests else {"test": []}
    overlaps: list[Overlap] = [
        {"set": name, "n": questions, "exact": 0, "ngram": len(ids), "size": 13, "examples": ids}
        for name, ids in shared.items()
    ]
    write_json(results / "extract" / "overlap.json", overlaps)
    pretraining: BaseMetrics = {
        "parameters": 1234,
        "vocabulary": 400,
        "documents": 640,
        "documents_cut": 0,
        "distinct_problems": 40,
        "steps": 10,
        "loss": 0.5,
        "seconds": 1.5,
    }
    write_json(results / "base" / "metrics.json", pretraining)
    base: BaseModelFile = {"model": str(results / "base" / "model"), "sha256": {}}
    write_json(results / "base" / "base.json", base)


def answers(strict: int, flexible: int, questions: int = QUESTIONS) -> list[GradedAnswer]:
    """The first `strict` answers are correct and well-formed, the first `flexible` end in the correct number."""
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


def _completion(index: int, strict: bool, flexible: bool) -> str:
    number = index + 1 if flexible else index + 2
    if strict:
        return f"<reasoning>\n{index} + 1 = {number} & <b>bold</b>\n</reasoning>\n<answer>\n{number}\n</answer>\n"
    return f"{index} + 1 = {number} {HOSTILE}\n#### {number}"


def _answers_of_task(rows: list[GradedAnswer], file: str) -> list[GradedAnswer]:
    """The answers as if given in another task: to the same questions with another prompt, or to another set."""
    name, other_set = Path(file).stem, file.startswith("sets")
    return [
        {
            **row,
            "id": f"{name}-{row['id']}" if other_set else row["id"],
            "completion": f"{name}: {row['completion']}",
        }
        for row in rows
    ]


def sampled_answers(rows: list[GradedAnswer], samples: int) -> list[GradedSamples]:
    """Every second sample is correct if the greedy answer is; otherwise none is."""
    return [
        {
            "id": row["id"],
            "question": row["question"],
            "gold": row["gold"],
            "strict_answers": [row["gold"] if row["strict_correct"] and i % 2 else None for i in range(samples)],
            "flexible_answers": [row["gold"] if row["flexible_correct"] and i % 2 else "0" for i in range(samples)],
            "strict_correct": [row["strict_correct"] and bool(i % 2) for i in range(samples)],
            "flexible_correct": [row["flexible_correct"] and bool(i % 2) for i in range(samples)],
            "completion_tokens": [20] * samples,
        }
        for row in rows
    ]


def _greedy_metrics(rows: list[GradedAnswer], more_tests: bool) -> list[TaskMetric]:
    run = [("test", "trained"), *([("test", "8-shot"), ("svamp", "trained")] if more_tests else [])]
    infos: list[TaskInfo] = [{"set": name, "prompt": prompt, "decoding": "greedy"} for name, prompt in run]
    values = greedy_metrics(summarise(rows, resamples=100, seed=0), len(rows), GREEDY_METRICS)
    return [{**info, **value} for info in infos for value in values]


def _probe_metrics(rows: list[GradedAnswer]) -> list[TaskMetric]:
    """Every answer as one to an unanswerable question; every tenth question is continued word for word."""
    info: TaskInfo = {"set": "plus, unanswerable", "prompt": "trained", "decoding": "greedy"}
    continued = [
        row("test", "test-0", "Ann has", " 3 pens.", " 3 pens." if index % 10 == 0 else " 3 cups.")
        for index in range(len(rows))
    ]
    probe: TaskInfo = {"set": "test", "prompt": "continuation", "decoding": "greedy"}
    return [
        *({**info, **value} for value in number_rates(rows)),
        *({**probe, **value} for value in continuation_metrics(continued, resamples=100, seed=0)),
    ]


def _sampled_metrics(rows: list[GradedSamples]) -> list[TaskMetric]:
    info: TaskInfo = {"set": "test", "prompt": "trained", "decoding": "sampled"}
    return [{**info, **value} for value in sampled_metrics(rows, resamples=100, seed=0)]


def checkpoints(
    steps: Sequence[int], first: tuple[int, int], last: tuple[int, int], questions: int
) -> list[CheckpointMetrics]:
    """Correct answers that rise from those before step 0 to those of the last step."""
    points: list[CheckpointMetrics] = []
    for step in steps:
        progress = 1 - math.exp(-step / 60)
        right = [round(before + progress * (after - before)) for before, after in zip(first, last, strict=True)]
        rows = answers(right[0], right[1], questions)
        points.append(curve_point(step, 4 * step, rows))
    return points


def history(steps: int, rewards: list[str], kl: bool = False) -> pd.DataFrame:
    """The columns of history.csv, with rewards that rise from 0 to 1."""
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
    folder: Path,
    rows: list[GradedAnswer],
    metrics: list[TaskMetric],
    run_id: str,
    params: Params,
    signal: dict[str, float],
) -> None:
    first, *others = tasks(params)
    write_jsonl(folder / first.file, rows)
    for task in others:
        write_jsonl(folder / task.file, _answers_of_task(rows, task.file))
    probes: list[Probe] = [
        {"question": question, "completion": HOSTILE, "truncated": False} for question in params.evaluate.probes
    ]
    write_jsonl(folder / "probes.jsonl", probes)
    evaluation: Evaluation = {
        "n": len(rows),
        "n_available": len(rows),
        **summarise(rows, params.compare.resamples, params.seed),
        "measures": metrics,
        "signal": [
            {"reward": name, "share": share, "ci95": [share / 2, (1 + share) / 2], "n": 200, "samples": 4}
            for name, share in signal.items()
        ],
        "decoding": {
            "greedy": True,
            "max_completion_length": 80,
            "one_shot": False,
            "samples": params.evaluate.samples,
            "temperature": 1.0,
            "seed": params.seed,
            "chat_template_kwargs": params.chat_template_kwargs,
            "date": "2024-07-26",
            "stop_tokens": [0, 2],
        },
        "seconds": 2.5,
        "timing": [
            {
                **first.info("greedy"),
                "seconds": 2.5,
                "completions": len(rows),
                "completion_tokens": sum(row["completion_tokens"] for row in rows),
            }
        ],
        "mlflow_run_id": run_id,
        "mlflow_run_key": f"key-{run_id}",
    }
    write_json(folder / "metrics.json", evaluation)


def _write_training(
    folder: Path,
    columns: pd.DataFrame,
    rewards: list[str],
    run_id: str,
    energy: float | None,
    method: Method,
    warnings: list[TrainingWarning],
    stopped: int | None,
) -> None:
    write_text(folder / "history.csv", columns.to_csv(index=False))
    samples: list[TrainingSample] = [
        {"step": step, "question": HOSTILE, "completion": HOSTILE, "rewards": dict.fromkeys(rewards, 0.5)}
        for step in (1, 1, 51, 51)
        if rewards
    ]
    write_jsonl(folder / "samples.jsonl", samples)
    metrics: TrainingMetrics = {
        "method": method,
        "steps": len(columns),
        "epochs": 1.5,
        "prompts_seen": 4 * len(columns),
        "prompts": 32,
        "prompts_available": 32,
        "prompts_left_out_per_epoch": 0,
        "tokens": 5000,
        "skipped_steps": 0,
        "share_without_signal": float(columns["zero_variance_share"].mean()) if rewards else None,
        "warnings": warnings,
        "stopped_at": stopped,
        "stop_reason": stopped and "all groups of the last 5 generations had equal rewards",
        "reward_first": 0.1 if rewards else None,
        "reward_last": 2.0 if rewards else None,
        "seconds": 90.0,
        "seconds_generate": 40.0,
        "seconds_score": 1.0,
        "seconds_update": 49.0,
        "seconds_saving": 0.5,
        "sessions": 1,
        "peak_memory_gib": 0.5,
        "energy_kwh": energy,
        "mlflow_run_id": run_id,
        "mlflow_run_key": f"key-{run_id}",
        "effective_config": {
            "max_steps": 200,
            "parameters": 1234,
            "device": "cpu",
            "learning_rate": 1e-4,
            "epsilon_high": None,
        },
    }
    write_json(folder / "metrics.json", metrics)
