"""Each job has a GPU of its own, as long as its process lives.

The GPUs are those of a program named nvidia-smi, since these tests need none; the jobs and their locks are real.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from project import ROOT

JOB = """
import os, sys
from gsm8k_grpo.runtime import gpus
with gpus.claimed(int(sys.argv[1])):
    print(os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
    sys.stdin.read()
"""
UUIDS = ["GPU-aa11", "GPU-bb22", "GPU-cc33"]


@pytest.fixture
def start(tmp_path):
    """Starts a job on a machine with `installed` GPUs; its standard input keeps it waiting while it holds them."""
    jobs: list[subprocess.Popen[str]] = []

    def begin(count: int = 1, installed: int = 2, outer: str | None = None) -> subprocess.Popen[str]:
        tools = tmp_path / f"tools-{installed}"
        tools.mkdir(exist_ok=True)
        listing = "".join(f"echo '{number}, {uuid}'\n" for number, uuid in enumerate(UUIDS[:installed]))
        (tools / "nvidia-smi").write_text(f"#!/bin/sh\n{listing}")
        (tools / "nvidia-smi").chmod(0o755)
        environment = os.environ | {
            "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "TMPDIR": str(tmp_path),
            "PYTHONPATH": str(ROOT / "workflow"),
        }  # fmt: skip
        environment.pop("CUDA_VISIBLE_DEVICES", None)
        jobs.append(
            subprocess.Popen(
                [sys.executable, "-c", JOB, str(count)],
                env=environment if outer is None else environment | {"CUDA_VISIBLE_DEVICES": outer},
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
        )  # fmt: skip
        return jobs[-1]

    yield begin
    for job in jobs:
        with job:
            job.kill()


def given(job: subprocess.Popen[str]) -> str:
    return job.stdout.readline().strip()


def test_jobs_side_by_side_have_different_gpus_and_say_which(start):
    assert given(start()) == "0"
    second = start()
    assert given(second) == "1"
    assert second.stderr.readline() == "on GPU 1 of 0, 1\n"


@pytest.mark.parametrize("killed", [True, False], ids=["killed", "ended"])
def test_a_job_waits_for_a_gpu_until_one_is_free_however_its_job_ends(start, killed):
    first, second = start(), start()
    assert {given(first), given(second)} == {"0", "1"}
    third = start()
    assert third.stderr.readline() == "waiting for 1 of GPU 0, 1, which other jobs use\n"
    if killed:
        first.kill()
    else:
        first.stdin.close()
    first.wait()
    assert given(third) in ("0", "1")


def test_a_job_that_uses_several_takes_all_at_once_or_waits(start):
    one = start()
    assert given(one) == "0"
    both = start(count=2)
    assert both.stderr.readline() == "waiting for 2 of GPU 0, 1, which other jobs use\n"
    assert given(start()) == "1"  # the job that waits holds none
    one.kill()
    one.wait()
    assert given(start()) == "0"


def test_a_job_that_uses_more_than_there_are_is_refused(start):
    refused = start(count=3)
    assert refused.wait() == 1
    assert refused.stderr.read().splitlines()[-1] == (
        "gsm8k_grpo.files.PipelineError: the job uses 3 GPUs, and only 2 can be used: 0, 1"
    )


@pytest.mark.parametrize(
    ("outer", "names"),
    [
        ("1", "1"), ("2,0", "2"), ("GPU-bb22", "1"), ("GPU-cc", "2"), ("MIG-1f2e", "MIG-1f2e"), ("0,7,1", "0"),
        ("", ""), ("-1", "-1"),
    ],
    ids=["number", "order", "uuid", "short uuid", "part of a gpu", "unknown behind", "none", "none by number"],
)  # fmt: skip
def test_an_outer_choice_is_kept(start, outer, names):
    assert given(start(installed=3, outer=outer)) == names


def test_a_gpu_named_by_number_and_by_uuid_is_one(start):
    assert given(start(installed=3, outer="1")) == "1"
    waiting = start(installed=3, outer="GPU-bb22")
    assert waiting.stderr.readline() == "waiting for 1 of GPU 1, which other jobs use\n"


def test_without_a_gpu_nothing_is_claimed(start, tmp_path):
    assert given(start(installed=0)) == "None"
    assert not Path(tmp_path, f"gsm8k-grpo-{os.getuid()}").exists()
