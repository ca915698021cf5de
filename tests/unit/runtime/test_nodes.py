"""How Slurm's messages about ranks on several nodes are read, and the errors of jobs that can't run them.

Real nodes: tests/pipeline/test_slurm.py.
"""

import os
import signal
import time

import pytest
from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.runtime import nodes, ranks


@pytest.fixture
def said(tmp_path, monkeypatch):
    """Has the command `srun` print lines as its errors, and end with an exit status; returns the step."""
    programs, folder = tmp_path / "programs", tmp_path / "step"
    programs.mkdir()
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")

    def start(lines: str, status: int) -> nodes.Step:
        (programs / "srun").write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{lines}\nEND\nexit {status}\n")
        (programs / "srun").chmod(0o755)
        step = nodes.Step(["true"], 6, 2, {}, ranks.NUMBER, folder)
        while step.process.poll() is None:
            time.sleep(0.01)
        return step

    return start


def test_each_rank_has_the_exit_status_that_slurm_names(said):
    step = said(
        "srun: error: two: tasks 3,5: Exited with exit code 3\n"
        "slurmstepd: error: *** STEP 7.0 ON one CANCELLED ***\n"
        "srun: error: one: tasks 0-1: Killed\n"
        "srun: error: two: task 4: Segmentation fault (core dumped)",
        137,
    )
    assert step.codes() == [-signal.SIGKILL, -signal.SIGKILL, 0, 3, -signal.SIGSEGV, 3]


def test_ranks_of_which_slurm_names_none_have_succeeded(said):
    assert said("srun: Step created for job 7", 0).codes() == [0] * 6


def test_srun_that_starts_no_rank_is_an_error_with_its_last_line(said):
    with pytest.raises(PipelineError, match=r"^srun could not run the 6 ranks: srun: error: Unable to create step"):
        said("srun: waiting\nsrun: error: Unable to create step for job 7", 1).codes()


def test_ranks_that_the_nodes_cannot_share_are_an_error():
    with pytest.raises(PipelineError, match=r"^gpus = 3: the job has 2 nodes \(one, two\)"):
        ranks.run(3, ["one", "two"])


def test_outside_of_slurm_there_are_no_nodes(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert nodes.of_job() == []
