"""The stages on a CUDA GPU, skipped where there is none; docs/gpu-checks.md has the results."""

import shutil
import signal
from pathlib import Path

import pandas as pd
import pytest
import torch
from gsm8k_grpo.files import read_json, read_jsonl
from safetensors.torch import load_file
from small_run import STEPS, TRAIN, logged_steps, mlflow_run, run, start, wait_for

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU")]


def history(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "results/train/short/history.csv")


def test_a_base_model_pretrained_on_the_gpu_has_weights_in_32_bit(prepared):
    weights = load_file(prepared / "results/base/model/model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    assert read_json(prepared / "results/base/metrics.json")["loss"] < 8


def test_training_runs_on_the_gpu_and_reports_it(uninterrupted):
    metrics = read_json(uninterrupted / "results/train/short/metrics.json")
    effective = metrics["effective_config"]
    assert (effective["device"], effective["dtype"], effective["bf16"]) == ("cuda", "float32", False)
    assert metrics["peak_memory_gib"] < 4
    assert 0 < metrics["energy_kwh"] < 1
    rows = history(uninterrupted)
    assert (rows["grad_norm"] > 0).all()
    assert (rows["reward_std"] > 0).any()


def test_adapters_of_a_model_in_16_bit_train_where_transformers_generates(prepared, tmp_path):
    """As in the recipe rtx3080 with adapters."""
    folder = shutil.copytree(prepared, tmp_path / "p")
    run(folder, TRAIN, precision="bfloat16", lora="{rank: 4, alpha: 8, targets: [q_proj, up_proj]}", train__beta="0.04")
    assert read_json(folder / "results/train/short/metrics.json")["effective_config"]["dtype"] == "bfloat16"
    weights = load_file(folder / "results/train/short/model/adapter_model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    assert all(tensor.any() for tensor in weights.values())  # the matrices B start as zeros, so each has had a gradient


def test_every_model_is_evaluated_on_the_gpu(uninterrupted):
    run(uninterrupted, "evaluate --model base", "evaluate --model short")
    for model in ("base", "short"):
        assert len(read_jsonl(uninterrupted / "results/evaluate" / model / "answers.jsonl")) == 10


def test_a_stopped_run_resumes_with_its_step_its_schedule_and_its_mlflow_run(prepared, uninterrupted, tmp_path):
    folder = shutil.copytree(prepared, tmp_path / "p")
    process = start(folder, TRAIN)
    wait_for(lambda: any(folder.glob("checkpoints/short-*/kept/9")), process)
    process.send_signal(signal.SIGTERM)
    output = process.communicate()[0]
    assert process.returncode == 128 + signal.SIGTERM, output
    stopped = mlflow_run(folder)
    assert stopped.info.status == "KILLED"
    run(folder, TRAIN)
    for column in ("step", "epoch", "prompts_seen", "learning_rate"):
        assert list(history(folder)[column]) == list(history(uninterrupted)[column])
    assert logged_steps(folder) == STEPS
    assert (mlflow_run(folder).info.run_id, mlflow_run(folder).info.status) == (stopped.info.run_id, "FINISHED")
    assert read_json(folder / "results/train/short/metrics.json")["sessions"] == 2


def test_the_same_seed_gives_the_same_first_generation_in_a_run_of_its_own(prepared, uninterrupted, tmp_path):
    """A GPU need not give the same bytes in two runs; the test prints how far these two agree."""
    folder = run(shutil.copytree(prepared, tmp_path / "p"), TRAIN)
    rewards = [history(one)["reward"] for one in (uninterrupted, folder)]
    agreeing = int((rewards[0] == rewards[1]).cumprod().sum())
    print(f"rewards agree in the first {agreeing} of {len(STEPS)} steps")
    assert agreeing >= 1
