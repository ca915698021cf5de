"""The stages that compute on a GPU claim one before they start, so that jobs side by side do not share it."""

import os
import subprocess

import pytest
from filelock import FileLock
from small_run import TRAIN, command


@pytest.mark.parametrize("stage", ["base", TRAIN, "evaluate --model base"], ids=["base", "train", "evaluate"])
def test_a_stage_waits_for_a_gpu_of_its_own(folder, tmp_path, stage):
    tool = tmp_path / "tools/nvidia-smi"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho 0, GPU-aa11\n")
    tool.chmod(0o755)
    environment = os.environ | {"PATH": f"{tool.parent}{os.pathsep}{os.environ['PATH']}", "TMPDIR": str(tmp_path)}
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    locks = tmp_path / f"gsm8k-grpo-{os.getuid()}/gpus"
    locks.mkdir(parents=True)
    with (
        FileLock(locks / "GPU-aa11.lock"),
        subprocess.Popen(command(stage), cwd=folder, env=environment, stderr=subprocess.PIPE, text=True) as job,
    ):
        said = job.stderr.readline()
        job.terminate()
        assert job.wait() == 143
    assert said == "waiting for 1 of GPU 0, which other jobs use\n"
