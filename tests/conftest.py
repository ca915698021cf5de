"""Shared by the tests: a small configuration, a working folder, the command line, trained models, the real GSM8K."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import forked
import pytest
from gsm8k_grpo.config import params
from hypothesis import settings
from project import COMMAND, ROOT, SECONDS, TRANSFORMERS

settings.register_profile("repeatable", database=None, deadline=None, derandomize=True)
settings.load_profile("repeatable")

STARTS_COMMANDS = {"cli", "prepared"}  # fixtures that run `gsm8k-grpo` in processes of their own, for seconds each

SMALL = {
    **TRANSFORMERS,
    "threads": 1,
    "seed": 7,
    "download.generated": {"train_rows": 40, "test_rows": 10},
    "extract.validation_rows": 8,
    "train.prompts": None,
}


def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Mark the tests that start commands; `make test-fast` leaves them out."""
    for item in items:
        if STARTS_COMMANDS & set(item.fixturenames):
            item.add_marker("command")


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def small() -> params.Params:
    """The default configuration with 40 + 10 generated problems; 8 of the 40 are for validation."""
    return params.load(ROOT / "params.yaml", SMALL)


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    """A folder that holds only params.yaml."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    return tmp_path


@pytest.fixture
def cli(workdir: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `gsm8k-grpo` in the working folder; keyword arguments become environment variables of a new process."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        if forked.USABLE and not environment:
            return forked.run(list(arguments), workdir)
        return subprocess.run(
            [COMMAND, *arguments],
            cwd=workdir,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def gsm8k() -> Path:
    """The folder of the real GSM8K."""
    folder = Path(os.environ.get("GSM8K_FOLDER", ROOT.parent / "shared" / "gsm8k"))
    if not (folder / "train.jsonl").is_file():
        pytest.skip("GSM8K is missing: set GSM8K_FOLDER to the folder with its train.jsonl and test.jsonl")
    return folder


@pytest.fixture(scope="session")
def prepared(tmp_path_factory) -> Path:
    """The folder of small_run.py after the stages before training; tests copy it.

    It has MLflow's empty database, whose creation takes seconds.
    """
    from mlflow import MlflowClient  # its import and pandas' take seconds, and few tests need them
    from small_run import PREPARE, run

    folder = run(tmp_path_factory.mktemp("prepared"), *PREPARE)
    (folder / "tracking").mkdir()
    MlflowClient(f"sqlite:///{folder}/tracking/mlflow.db").search_experiments()
    return folder


@pytest.fixture(scope="session")
def uninterrupted(prepared, tmp_path_factory) -> Path:
    """The same folder after the variant short was trained without interruption."""
    from small_run import TRAIN, run

    return run(shutil.copytree(prepared, tmp_path_factory.mktemp("uninterrupted") / "p"), TRAIN)


@pytest.fixture(scope="session")
def trained_by_two(prepared, tmp_path_factory) -> Path:
    """The same folder after two ranks on this machine have trained the variant short and evaluated it."""
    from small_run import TRAIN, run

    together = shutil.copytree(prepared, tmp_path_factory.mktemp("two") / "p")
    return run(together, TRAIN, "evaluate --model short", gpus=2)


@pytest.fixture
def folder(prepared, tmp_path) -> Path:
    """A copy of `prepared` for one test."""
    return shutil.copytree(prepared, tmp_path / "p")
