"""The stage evaluate on a few questions, for real: checkpoints by name, and the learning curve."""

import os
import shutil
import subprocess
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from conftest import COMMAND, ROOT
from gsm8k_grpo.evaluate import trained_weights
from gsm8k_grpo.files import PipelineError, read_json, read_jsonl, write_jsonl

# A base model that is taught the short tagged answers alone has some of them right in format after a few steps.
FEW = [
    "threads=1", "download.generated.train_rows=60", "download.generated.test_rows=12", "extract.validation_rows=12",
    "base.steps=60", "base.styles={terse: 0, plain: 0, hurried: 1, tagged: 0}", "base.drills=0",
    "train.prompts=32", "train.max_completion_length=24", "train.save_steps=4", "train.sample_prompts=2",
    "train.per_device_train_batch_size=32", "train.steps_per_generation=4", "train.learning_rate=2e-3",
    "variants.short.max_steps=8", "keep_checkpoints=[4]", "compare.resamples=100",
    "evaluate.max_completion_length=60", "evaluate.questions=12",
]  # fmt: skip
STEP_OF = {"base": 0, "short@4": 4, "short": 8}
COMPARED = ("n", "strict_accuracy", "flexible_accuracy", "format_rate", "mean_completion_tokens")


def run(folder: Path, *arguments: str) -> None:
    shutil.copy(ROOT / "params.yaml", folder)
    command = [COMMAND, *arguments, *(word for one in FEW for word in ("--set", one))]
    done = subprocess.run(command, cwd=folder, env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory) -> Path:
    """Base, short and short@4 have answered; the test questions asked are those of the validation split."""
    folder = tmp_path_factory.mktemp("evaluated")
    run(folder, "download")
    run(folder, "extract")
    test = folder / "results/extract/test.jsonl"
    write_jsonl(test, read_jsonl(test.with_name("validation.jsonl")) + read_jsonl(test))
    run(folder, "base")
    run(folder, "train", "--variant", "short")
    for model in ("base", "short", "short@4"):
        run(folder, "evaluate", "--model", model)
    return folder


def curve(folder: Path, model: str) -> list[dict]:
    return read_jsonl(folder / "results/evaluate" / model / "checkpoints.jsonl")


def metrics(folder: Path, model: str) -> dict:
    return read_json(folder / "results/evaluate" / model / "metrics.json")


def test_base_is_step_0_and_a_variant_has_its_kept_steps_and_its_last(evaluated):
    assert [(row["step"], row["prompts_seen"]) for row in curve(evaluated, "base")] == [(0, 0)]
    seen = pd.read_csv(evaluated / "results/train/short/history.csv").set_index("step")["prompts_seen"]
    assert [(row["step"], row["prompts_seen"]) for row in curve(evaluated, "short")] == [(4, seen[4]), (8, seen[8])]


def test_a_row_has_every_share_with_its_interval(evaluated):
    for row in [*curve(evaluated, "base"), *curve(evaluated, "short")]:
        assert list(row) == [
            "step", "prompts_seen", "n", "strict_accuracy", "strict_accuracy_ci95", "flexible_accuracy",
            "flexible_accuracy_ci95", "format_rate", "format_rate_ci95", "mean_completion_tokens",
        ]  # fmt: skip
        assert row["format_rate_ci95"][0] <= row["format_rate"] <= row["format_rate_ci95"][1]


def test_a_row_says_what_the_evaluation_of_its_model_says_of_the_same_questions(evaluated):
    rows = {row["step"]: row for model in ("base", "short") for row in curve(evaluated, model)}
    for model, step in STEP_OF.items():
        found = metrics(evaluated, model)
        assert found["n_available"] == 24
        assert {key: rows[step][key] for key in COMPARED} == {key: found[key] for key in COMPARED}
    assert len({tuple(row[key] for key in COMPARED) for row in rows.values()}) == 3  # the models differ


def test_a_kept_checkpoint_has_no_curve_of_its_own(evaluated):
    written = {path.name for path in (evaluated / "results/evaluate/short@4").iterdir()}
    assert written == {"answers.jsonl", "probes.jsonl", "metrics.json"}


def test_mlflow_has_the_curve_at_its_steps_and_the_finals_of_the_last_step(evaluated):
    client = mlflow.MlflowClient(f"sqlite:///{evaluated}/tracking/mlflow.db")
    for model in ("base", "short"):
        run_id = metrics(evaluated, model)["mlflow_run_id"]
        for name in COMPARED[1:]:
            logged = client.get_metric_history(run_id, f"validation_{name}")
            assert {point.step: point.value for point in logged} == {
                row["step"]: row[name] for row in curve(evaluated, model)
            }
        final = client.get_run(run_id).data.metrics["final_mean_completion_tokens"]
        assert final == metrics(evaluated, model)["mean_completion_tokens"]
    assert metrics(evaluated, "short@4")["mlflow_run_id"] == metrics(evaluated, "short")["mlflow_run_id"]


def test_without_a_validation_split_the_curve_is_empty(evaluated, tmp_path):
    shutil.copytree(evaluated / "results", tmp_path / "results")
    write_jsonl(tmp_path / "results/extract/validation.jsonl", [])
    run(tmp_path, "evaluate", "--model", "base")
    assert (tmp_path / "results/evaluate/base/checkpoints.jsonl").read_bytes() == b""
    assert metrics(tmp_path, "base")["n"] == 12


@pytest.mark.parametrize(("model", "folder"), [("short@4", "checkpoints/4"), ("short", "model")])
def test_weights_that_are_not_there_are_named_with_the_command_that_writes_them(tmp_path, model, folder):
    with pytest.raises(PipelineError) as stopped:
        trained_weights(model, tmp_path)
    assert str(stopped.value) == (
        f"{tmp_path / 'short' / folder}: no such folder; it is written by `gsm8k-grpo train --variant short`"
    )
