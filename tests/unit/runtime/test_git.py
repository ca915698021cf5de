"""The commit that the report names, with real repositories: what it holds, what it lacks, why there is none."""

import re
import subprocess
from pathlib import Path

import pytest
from gsm8k_grpo.runtime import git

NAMED = ["-c", "user.name=test", "-c", "user.email=test@localhost"]


def run(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *NAMED, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def project(folder: Path) -> Path:
    """A folder that looks like the project."""
    for name in ("workflow/gsm8k_grpo/cli.py", "workflow/recipes/tiny.yaml", "params.yaml", ".gitignore"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine.yaml\n")
    return folder


@pytest.fixture
def repository(tmp_path) -> Path:
    """The project in a repository, without a change."""
    run(project(tmp_path), "init", "--quiet")
    run(tmp_path, "add", "--all")
    run(tmp_path, "commit", "--quiet", "--message=all")
    return tmp_path


def test_the_commit_of_an_unchanged_project_is_its_hash(repository):
    (repository / "workflow/gsm8k_grpo/__pycache__").mkdir()
    (repository / "workflow/gsm8k_grpo/__pycache__/cli.pyc").touch()
    (repository / "notes.txt").touch()  # shapes no run
    assert git.commit(repository) == run(repository, "rev-parse", "HEAD")


def test_a_changed_file_makes_it_dirty(repository):
    (repository / "params.yaml").write_text("seed: 7\n")
    assert git.commit(repository) == run(repository, "rev-parse", "HEAD") + "-dirty"


@pytest.mark.parametrize("name", ["own.yaml", "mine.yaml"])  # git ignores the second
def test_a_recipe_that_the_commit_lacks_is_named(repository, name):
    (repository / "workflow/recipes" / name).touch()
    commit = run(repository, "rev-parse", "HEAD")
    assert git.commit(repository) == f"{commit} (without the new files workflow/recipes/{name})"


def test_the_repository_around_an_unpacked_copy_is_not_its_own(repository):
    copy = project(repository / "unpacked")
    assert git.commit(copy) == f"unknown (the repository around {copy} does not hold its code)"


def test_a_folder_outside_of_a_repository_has_no_commit(tmp_path):
    assert re.fullmatch(r"unknown \(not a git repository.*\)", git.commit(project(tmp_path)))


def test_the_folder_of_another_owner_has_no_commit(repository, monkeypatch):
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    assert git.commit(repository).startswith("unknown (detected dubious ownership in repository")


def test_without_git_there_is_no_commit(repository, monkeypatch):
    monkeypatch.setenv("PATH", str(repository))
    assert git.commit(repository) == "unknown (git is not installed)"
