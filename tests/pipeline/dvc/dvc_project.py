"""A project in a folder of its own that DVC runs: its stages, its commands, and changes to its configuration."""

import os
import subprocess
import sys
from pathlib import Path

import yaml
from gsm8k_grpo.config import layers

TABLE = ["configure", "download", "extract", "base", "train@short", "train@full",
       "evaluate_base", "evaluate@short", "evaluate@full", "compare", "card@short", "card@full", "report"]  # fmt: skip
ALL = set(TABLE)
CARDS = {"card@short", "card@full"}
AFTER_EVALUATION = {"evaluate_base", "evaluate@short", "evaluate@full", "compare", *CARDS, "report"}
# Those of Snakemake for a report.
RULES = {stage.partition("@")[0] for stage in ALL} - {"evaluate_base"} | {"download_sets", "extract_sets"}

ENVIRONMENT = os.environ | {
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "GIT_AUTHOR_NAME": "test", "GIT_AUTHOR_EMAIL": "test@localhost",
    "GIT_COMMITTER_NAME": "test", "GIT_COMMITTER_EMAIL": "test@localhost",
}  # fmt: skip


def environment(folder: Path) -> dict[str, str]:
    """The environment in which the folder's own code is imported instead of the installed one."""
    return ENVIRONMENT | {"PYTHONPATH": str(folder / "workflow")}


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=600, check=False
    )


def done(folder: Path, *command: str) -> str:
    finished = run(folder, *command)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout + finished.stderr


def edit(folder: Path, **changes) -> None:
    """Change params.yaml; a dotted key is written with two underscores."""
    path = folder / "params.yaml"
    changes = {key.replace("__", "."): value for key, value in changes.items()}
    path.write_text(yaml.safe_dump(layers.merge(layers.read(path), layers.nested(changes)), sort_keys=False))


def configured(data: dict) -> tuple[str, int]:
    """The recipe and the steps of the variant short, from a row of `dvc exp show`."""
    values = data["params"]["params.yaml"]["data"]
    return values["recipe"], values["variants"]["short"]["max_steps"]
