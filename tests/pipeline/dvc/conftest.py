"""The project that the tests of DVC share: run once, committed, and put back after each test that changes it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from dvc_project import ALL, done, edit
from dvc_state import ran
from small_run import FEW, checkout


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """The project's files in a new repository, with few steps, run once by DVC and committed."""
    folder = checkout(tmp_path_factory.mktemp("project"))
    (folder / "dvc.lock").unlink()
    edit(folder, **FEW | {"variants.full.epochs": 1, "keep_checkpoints": [4], "extract.validation_rows": 0})
    shutil.copy(folder / "workflow/recipes/tiny.yaml", folder / "workflow/recipes/again.yaml")
    done(folder, "git", "init", "--quiet", "--initial-branch=main")
    done(folder, "git", "add", "--all")
    done(folder, "git", "commit", "--quiet", "--message=few steps")
    assert ran(done(folder, "dvc", "repro")) == ALL
    done(folder, "git", "add", "dvc.lock")
    done(folder, "git", "commit", "--quiet", "--message=results")
    return folder


@pytest.fixture
def same_results(project) -> Iterator[Path]:
    """The project as it was committed, for a test that leaves its results alone; other changes are undone."""
    yield project
    done(project, "git", "checkout", "--quiet", ".")


@pytest.fixture
def finished(same_results) -> Iterator[Path]:
    """The project as it was committed; changes are undone after the test, as the documents say."""
    yield same_results
    done(same_results, "git", "checkout", "--quiet", ".")
    done(same_results, "dvc", "checkout", "--force")
    done(same_results, "gsm8k-grpo", "sync")
