"""Locks of a working folder: held by one process, released with it, and refused where the file system has none."""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.runtime import locks

HOLDER = """
from gsm8k_grpo.runtime import locks
with locks.held("train"):
    print("held", flush=True)
    input()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_lock_is_refused_while_another_process_holds_it_and_free_once_that_is_killed(monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE", 0.1)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(PipelineError, match=r"^another process is running train in this folder"),
            locks.held("train"),
        ):
            pytest.fail("two processes have the lock")
        holder.kill()
    with locks.held("train"):
        pass
    with locks.held("train"):  # the block before has released it
        pass


@pytest.mark.parametrize("fault", locks.NO_LOCKS, ids=errno.errorcode.get)
def test_a_file_system_without_locks_is_named_in_one_line_and_nothing_runs(folder, monkeypatch, fault):
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(fault, os.strerror(fault))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(PipelineError) as refused, locks.held("train"):
        pytest.fail("the block ran without a lock")
    message = str(refused.value)
    assert message.startswith(f"{folder}/.work/locks: ")
    assert os.strerror(fault) in message
    assert "\n" not in message


def test_another_fault_is_not_taken_for_missing_locks(folder):
    (folder / ".work").touch()
    with pytest.raises(NotADirectoryError), locks.held("train"):
        pytest.fail("the block ran without a lock")
