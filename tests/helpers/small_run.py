"""The real stages on few rows and steps, for tests that need a trained model within seconds."""

import fcntl
import filecmp
import os
import shutil
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forked
import mlflow
import pandas as pd
import yaml
from gsm8k_grpo.config import layers
from gsm8k_grpo.files import read_json
from project import COMMAND, ROOT, TRANSFORMERS, heeding_interrupts

# 8 steps per epoch and 4 per generation; the weights of step 9, within the third generation, are kept.
FEW = TRANSFORMERS | {
    "threads": 1, "download.generated.train_rows": 60, "download.generated.test_rows": 10,
    "extract.validation_rows": 10, "base.steps": 6, "train.prompts": 32, "train.per_device_train_batch_size": 32,
    "train.steps_per_generation": 4, "train.max_completion_length": 24, "train.save_steps": 4,
    "train.sample_steps": 4, "train.sample_prompts": 2, "variants.short.max_steps": 12, "keep_checkpoints": "[9]",
    "evaluate.max_completion_length": 24, "compare.resamples": 100, "evaluate.samples": 2,
    "evaluate.sets": {"longer": {"generated": {"problems": "longer", "rows": 5}}},
}  # fmt: skip
PREPARE = ("download", "extract", "base")
TRAIN = "train --variant short"
STEPS = list(range(1, 13))
ADAPTERS = "{rank: 4, alpha: 8, targets: [q_proj, up_proj, down_proj]}"  # of the key lora
WALL_CLOCK = {
    "seconds", "seconds_generate", "seconds_score", "seconds_update", "seconds_saving", "energy_kwh",
    "peak_memory_gib", "sessions", "mlflow_run_id", "mlflow_run_key",
}  # fmt: skip
MODEL_FILES = ["results/train/short/model/model.safetensors", "results/train/short/checkpoints/9/model.safetensors"]
TRAINED_FILES = [*MODEL_FILES, "results/train/short/samples.jsonl"]


def command(stage: str, **settings: Any) -> list[str]:
    """`gsm8k-grpo STAGE` on few rows; settings such as `train__learning_rate=1` override the small ones."""
    overrides = FEW | {key.replace("__", "."): value for key, value in settings.items()}
    return [str(COMMAND), *stage.split(), *(f"--set={key}={value}" for key, value in overrides.items())]


def own_code(folder: Path) -> dict[str, str]:
    """The environment in which the code of a copied project is imported instead of the installed one."""
    code = {"PYTHONPATH": str(folder / "workflow")} if (folder / "workflow").exists() else {}
    return os.environ | code


def may_fork(folder: Path) -> bool:
    """Whether a fork of a process that has imported this code does; a copied project has code of its own."""
    return forked.USABLE and not (folder / "workflow").exists()


def stage(folder: Path, name: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    if may_fork(folder):
        return forked.run(command(name, **settings)[1:], folder)
    return subprocess.run(
        command(name, **settings), cwd=folder, env=own_code(folder), capture_output=True, text=True, check=False
    )


def run(folder: Path, *stages: str, **settings: Any) -> Path:
    """Run stages that must succeed, in an empty folder or in one where earlier stages ran."""
    if not (folder / "params.yaml").exists():
        shutil.copy(ROOT / "params.yaml", folder)
    for name in stages:
        done = stage(folder, name, **settings)
        assert done.returncode == 0, done.stderr
    return folder


def take_terminal() -> None:
    """Make the standard input of a new session its controlling terminal, whose end the kernel signals."""
    heeding_interrupts()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def start(folder: Path, name: str = TRAIN, **settings: Any) -> subprocess.Popen[str] | forked.Forked:
    """Start a stage in a process group of its own; its errors come with its output."""
    if may_fork(folder):
        return forked.Forked(command(name, **settings)[1:], folder, stderr="stdout")
    return subprocess.Popen(
        command(name, **settings), cwd=folder, start_new_session=True, preexec_fn=heeding_interrupts,
        env=own_code(folder), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def wait_for(happened: Callable[[], Any], process: subprocess.Popen | forked.Forked, seconds: float = 240) -> None:
    """Wait until `happened` returns something true, while the process runs."""
    end = time.monotonic() + seconds
    while not happened():
        assert process.poll() is None, "the process ended too early"
        assert time.monotonic() < end, f"nothing happened in {seconds} seconds"
        time.sleep(0.01)


def whole(folder: Path, step: int) -> Callable[[], bool]:
    """A function that returns whether the checkpoint of a step is complete."""
    return lambda: any(folder.glob(f"checkpoints/short-*/checkpoint-{step}/manifest.json"))


def killed_and_resumed(folder: Path, step: int, **settings: Any) -> None:
    """Kill a training when the checkpoint of a step is complete.  The same command must then resume and succeed."""
    process = start(folder, TRAIN, **settings)
    wait_for(whole(folder, step), process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    done = stage(folder, TRAIN, **settings)
    assert done.returncode == 0, done.stderr
    assert "resuming from checkpoints/short-" in done.stderr


def without_clock(folder: Path) -> dict[str, Any]:
    """metrics.json of the training without the measured times and other values that differ between runs."""
    metrics = read_json(folder / "results/train/short/metrics.json")
    return {key: value for key, value in metrics.items() if key not in WALL_CLOCK}


def history(folder: Path) -> str:
    """history.csv to the byte, without the columns of measured times."""
    rows = pd.read_csv(folder / "results/train/short/history.csv", dtype=str)
    return rows.drop(columns=[column for column in rows if column in WALL_CLOCK]).to_csv()


def assert_same_run(one: Path, other: Path, files: list[str] = TRAINED_FILES) -> None:
    assert filecmp.cmpfiles(one, other, files, shallow=False) == (files, [], [])
    assert history(one) == history(other)
    assert without_clock(one) == without_clock(other)


def mlflow_run(folder: Path) -> mlflow.entities.Run:
    """The only MLflow run of the variant short."""
    client = mlflow.MlflowClient(f"sqlite:///{folder}/tracking/mlflow.db")
    (only,) = client.search_runs(["1"], "tags.variant = 'short'")
    return only


def logged_steps(folder: Path, metric: str = "reward_correctness") -> list[int]:
    """The steps at which MLflow has a value of a metric; a step that was logged twice comes twice."""
    client = mlflow.MlflowClient(f"sqlite:///{folder}/tracking/mlflow.db")
    return sorted(point.step for point in client.get_metric_history(mlflow_run(folder).info.run_id, metric))


def unprivileged(arguments: list[str | Path]) -> list[str | Path]:
    """A command to which file permissions apply, even if root runs it."""
    if os.geteuid():
        return arguments
    dropped = "-dac_override,-dac_read_search"
    return ["setpriv", f"--inh-caps={dropped}", f"--bounding-set={dropped}", *arguments]


def checkout(folder: Path) -> Path:
    """Copy the files that git tracks into a folder."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in tracked.stdout.splitlines():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


def workflow(folder: Path) -> Path:
    """Copy the project's files into a folder, with few rows and steps in its params.yaml."""
    checkout(folder)
    params = folder / "params.yaml"
    few = FEW | {"keep_checkpoints": [9]}  # a list, as YAML has it
    changed = layers.merge(layers.read(params), layers.nested(few))
    changed["variants"]["full"] = {"epochs": 2}
    params.write_text(yaml.safe_dump(changed))
    return folder


def snakemake(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start Snakemake in a process group of its own, one job at a time."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.Popen(
        ["snakemake", "--cores", "1", *arguments], cwd=folder, env=os.environ | {"PATH": path}, text=True,
        start_new_session=True, preexec_fn=heeding_interrupts, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
