"""workflow/rules/processes.smk with jobs of its own: a signal at any moment ends Snakemake and its jobs."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from project import ROOT

# The job `long` would run for longer than the test waits.
SNAKEFILE = f"""
import os
import time

include: "{ROOT}/workflow/rules/processes.smk"


rule long:
    output: "long.txt"
    shell: "sleep 300"


rule short:
    priority: 1
    output: "short.txt"
    shell: "touch {{output}}"


def burst():
    for _ in range(8):
        os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.2)  # until all are delivered
"""
# The main thread holds the scheduler's lock while it records a job that has ended.
WHILE_A_JOB_ENDS = """
finish_jobs = JobScheduler._finish_jobs


def interrupted(scheduler):
    if scheduler._tofinish:
        burst()
    finish_jobs(scheduler)


JobScheduler._finish_jobs = interrupted
"""
BEFORE_A_JOB_STARTS = """
run_jobs = JobScheduler.run


def interrupted(scheduler, *arguments, **options):
    burst()
    run_jobs(scheduler, *arguments, **options)


JobScheduler.run = interrupted
"""


@pytest.mark.parametrize(
    ("moment", "targets"),
    [(WHILE_A_JOB_ENDS, ["short.txt", "long.txt"]), (BEFORE_A_JOB_STARTS, ["long.txt"])],
    ids=["while a job ends", "before a job starts"],
)
def test_a_burst_of_signals_ends_snakemake_and_its_jobs(tmp_path, moment, targets):
    (tmp_path / "Snakefile").write_text(SNAKEFILE + moment)
    snakemake = Path(sys.executable).with_name("snakemake")
    with subprocess.Popen(
        [snakemake, "--cores", "1", "--nolock", *targets],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT / "workflow")}, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as process:  # fmt: skip
        try:
            said = process.communicate(timeout=20)[0]
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 1
    assert "Will exit after finishing currently running jobs" in said
    assert not (tmp_path / "long.txt").exists()
