"""The settings with which benchmarks/scale.py measures several GPUs: GPU time is too dear to find a mistake there."""

from pathlib import Path

import pytest
from gsm8k_grpo.memory import plan, shapes
from scale_settings import JOBS, Bench

SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"
GPU_GIB = 79  # an H100 of 80 GB


@pytest.mark.parametrize("gpus", [2, 4, 8])
def test_every_measurement_has_valid_settings_that_fit_a_gpu_of_80_gb(gpus, tmp_path, monkeypatch):
    monkeypatch.setattr(Bench, "random_model", lambda self, shape: shape)
    bench = Bench(tmp_path, gpus, tmp_path, Path(SMOLLM2), small=False)
    for settings in (bench.training(gpus), bench.jobs(), bench.evaluation(gpus), bench.batch(gpus), bench.sharded()):
        assert plan.plan(settings, shapes.shape_of(settings)).gib < GPU_GIB
    assert bench.training(gpus).train.prompts_per_step == 4 * gpus
    assert bench.batch(gpus).train.prompts_per_step == bench.batch(1).train.prompts_per_step == 8
    assert set(JOBS) <= set(bench.jobs().variants)
    assert bench.sharded().is_sharded("short")
