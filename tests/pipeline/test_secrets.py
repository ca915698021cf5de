"""A short run of the whole workflow writes no secret of the environment into a file, a log or the report."""

import os
import shutil
import subprocess
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import ClassVar

import pytest
import yaml
from project import COMMAND, ROOT, serving

SECRETS = {
    "HF_TOKEN": "hf_secretofthehub",
    "HUGGING_FACE_HUB_TOKEN": "hf_secretofthehub",
    "MLFLOW_TRACKING_USERNAME": "userofthetracker",
    "MLFLOW_TRACKING_PASSWORD": "secretofthetracker",
    "AWS_ACCESS_KEY_ID": "keyofthebucket",
    "AWS_SECRET_ACCESS_KEY": "secretofthebucket",
}
# A few steps of one variant, on the default recipe.
FEW = {
    "variants": {"short": {"max_steps": 4}},
    "keep_checkpoints": [2],
    "download": {"generated": {"train_rows": 60, "test_rows": 10}},
    "extract": {"validation_rows": 10},
    "base": {"steps": 4},
    "train": {"prompts": 32, "max_completion_length": 24, "save_steps": 4, "sample_steps": 4, "sample_prompts": 2,
              "per_device_train_batch_size": 32, "steps_per_generation": 4},
    "compare": {"resamples": 100},
}  # fmt: skip


def run(folder: Path, *command: str | Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | SECRETS | {"PATH": path} | environment
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A working folder whose params.yaml has few rows and steps."""
    folder = tmp_path_factory.mktemp("place")
    for name in ("Snakefile", "workflow", "profiles"):
        (folder / name).symlink_to(ROOT / name)
    edited = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8")) | FEW
    edited["evaluate"] |= {"max_completion_length": 24}
    (folder / "params.yaml").write_text(yaml.safe_dump(edited), encoding="utf-8")
    return folder


def assert_no_secret_in(folder: Path, done: subprocess.CompletedProcess[bytes]) -> None:
    written = {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and not path.is_symlink()}
    for place, text in (written | {"stdout": done.stdout, "stderr": done.stderr}).items():
        found = [name for name, value in SECRETS.items() if value.encode() in text]
        assert not found, f"{found} in {place}"


def test_a_run_of_the_workflow_writes_no_secret(place):
    done = run(place, "snakemake", "--cores", "1", "report")
    assert done.returncode == 0, done.stderr.decode()
    for name in ("results/report/report.html", "tracking/mlflow.db", "logs/train/short.log"):
        assert (place / name).stat().st_size
    assert_no_secret_in(place, done)


class Closed(BaseHTTPRequestHandler):
    """A hub that refuses every request and records the tokens that it receives."""

    tokens: ClassVar[list[str | None]] = []

    def do_GET(self):
        self.tokens.append(self.headers["Authorization"])
        self.send_error(401)

    def do_HEAD(self):
        self.do_GET()

    def log_message(self, *arguments):
        pass


def test_the_error_about_a_hub_that_refuses_the_token_does_not_show_it(place, tmp_path):
    shutil.copy(place / "params.yaml", tmp_path)
    with serving(Closed) as address:
        hub = {"HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path)}
        done = run(tmp_path, COMMAND, "download", "--set", "source=hub", **hub)
    assert f"Bearer {SECRETS['HF_TOKEN']}" in Closed.tokens
    assert done.returncode == 1
    assert b"error: download: openai/gsm8k at revision" in done.stderr
    assert_no_secret_in(tmp_path, done)
