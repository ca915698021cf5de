"""Errors of the file system explained in one line, and checked before the work starts."""

import errno
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.runtime.imports import PACKAGE
from gsm8k_grpo.runtime.workspace import FAULTS, explain, require_own_code, require_past, require_writable


@pytest.mark.parametrize("fault", FAULTS)
def test_an_explained_error_names_path_fault_and_remedy_in_one_line(fault):
    line = explain(OSError(fault, "", "results/file"))
    assert line.startswith(f"results/file: {FAULTS[fault]}, then ")
    assert "\n" not in line


def test_an_error_without_a_path_names_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert explain(OSError(errno.ENOSPC, "")).startswith(f"{tmp_path}: ")


def test_errors_that_the_folder_does_not_cause_are_not_explained():
    assert explain(OSError(errno.ELOOP, "", "results/file")) is None
    assert explain(OSError("without a number")) is None


def test_a_new_working_folder_and_one_with_results_are_writable(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    require_writable(Path("results"))
    (tmp_path / "results" / "download").mkdir(parents=True)
    (tmp_path / "results" / ".hidden").touch()
    require_writable(Path("results"))


@pytest.mark.parametrize("path", ["results", "results/extract"])
def test_a_file_where_a_folder_must_be_is_refused(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).touch()
    with pytest.raises(PipelineError, match=f"^{re.escape(path)}: {FAULTS[errno.ENOTDIR]}"):
        require_writable(Path("results"))


@pytest.mark.parametrize("name", ["results/base/base.json", "my data/train.jsonl"])
def test_a_file_of_the_future_is_refused_and_the_command_that_is_named_gives_it_the_present_time(
    tmp_path, monkeypatch, name
):
    monkeypatch.chdir(tmp_path)
    files = [Path("results/base/base.json"), Path("my data/train.jsonl")]
    for file in files:
        file.parent.mkdir(parents=True)
        file.touch()
    sources = files[1:]
    require_past(Path("results"), sources)
    os.utime(name, (4102444800, 4102444800))
    with pytest.raises(PipelineError) as refused:
        require_past(Path("results"), sources)
    message = str(refused.value)
    assert message.startswith(f"{name}: it was last changed in the future (2100-01-01 ")
    assert "\n" not in message
    subprocess.run(message.split("`")[1], shell=True, check=True)
    require_past(Path("results"), sources)


def test_a_folder_without_code_or_with_the_code_that_runs_is_accepted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    require_own_code()
    (tmp_path / "workflow").symlink_to(PACKAGE.parent)
    require_own_code()


def test_a_folder_whose_code_is_not_the_one_that_runs_is_refused_with_the_way_to_run_it(cli, workdir):
    shutil.copytree(PACKAGE.parent, workdir / "workflow", ignore=shutil.ignore_patterns("__pycache__"))
    refused = cli("configure")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith(f"error: workflow/{PACKAGE.name}: this folder has code of its own")
    assert str(PACKAGE) in refused.stderr
    assert cli("configure", PYTHONPATH="workflow").returncode == 0
