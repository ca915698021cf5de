"""Commands that only read, twice at once on 60 columns: into a reader that goes away, and with a closed output."""

import os
import subprocess

import pytest
from project import COMMAND, SECONDS

SCRIPT = """
set -o pipefail
"$@" | head -n 0 & gone=$!
"$@" >&- & closed=$!
wait $gone && wait $closed
"""


@pytest.mark.command
@pytest.mark.parametrize("command", ["--help", "configure --print", "plan", "doctor", "checkpoints", "summary"])
def test_a_command_whose_output_is_not_read_succeeds_without_a_complaint(workdir, command):
    done = subprocess.run(
        ["bash", "-c", SCRIPT, "bash", COMMAND, *command.split()],
        cwd=workdir, env=os.environ | {"COLUMNS": "60"}, capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", ["summary", "train --variant short"])
def test_from_another_folder_a_command_says_where_it_runs(cli, workdir, command):
    (workdir / "params.yaml").unlink()
    done = cli(*command.split())
    assert done.returncode == 1
    assert done.stderr == "error: params.yaml: no such file; run from the folder that holds params.yaml\n"
