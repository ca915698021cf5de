"""A process continues after the reader of its output has gone away."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
from gsm8k_grpo.runtime import output
output.endure_lost_readers()
for stream in (sys.stdout, sys.stderr):
    for _ in range(3):
        print("line", file=stream, flush=True)
    print("the rest, which is written at the end", file=stream)
sys.exit(7)
"""


def closed_pipe() -> int:
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def closed_terminal() -> int:
    terminal, inside = pty.openpty()
    os.close(terminal)
    return inside


@pytest.mark.parametrize("without_reader", [closed_pipe, closed_terminal])
def test_output_without_a_reader_is_dropped(without_reader):
    lost = without_reader()
    assert subprocess.run([sys.executable, "-c", SCRIPT], stdout=lost, stderr=lost, check=False).returncode == 7
    os.close(lost)


def test_a_process_may_start_without_standard_output_and_error(tmp_path):
    script = SCRIPT.replace("sys.exit", f"print('kept', file=open({str(tmp_path / 'file')!r}, 'w'))\nsys.exit")
    closed = ["sh", "-c", 'exec "$@" >&- 2>&-', "sh", sys.executable, "-c", script]
    assert subprocess.run(closed, check=False).returncode == 7
    assert (tmp_path / "file").read_text() == "kept\n"


def test_output_that_is_read_stays_the_same():
    shown = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert shown.stdout == shown.stderr == "line\n" * 3 + "the rest, which is written at the end\n"


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["", "PYTHONUNBUFFERED"])
def test_an_error_line_arrives_while_the_process_goes_on(unbuffered):
    script = SCRIPT.split("for stream")[0] + "print('waiting', file=sys.stderr)\nsys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
    ) as process:  # fmt: skip
        assert process.stderr.readline() == "waiting\n"
        process.stdin.close()


def test_an_error_of_another_kind_is_raised():
    script = SCRIPT.replace("sys.exit(7)", "sys.stdout.buffer.raw.write(b'more')")
    with Path("/dev/full").open("w") as full:
        failed = subprocess.run([sys.executable, "-c", script], stdout=full, stderr=subprocess.PIPE, check=False)
    assert b"No space left on device" in failed.stderr


@pytest.mark.parametrize("reader", ["head -n 1", "grep -m1 .", "true"])
def test_a_command_into_a_reader_that_ends_early_succeeds(workdir, reader):
    piped = f"set -o pipefail; gsm8k-grpo configure --print | {reader}"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", piped], cwd=workdir, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_traceback_shows_control_sequences_as_escapes():
    script = "from gsm8k_grpo.runtime import output; output.filter_tracebacks(); raise ValueError('\\x1b[2J')"
    failed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert failed.stderr.startswith("Traceback (most recent call last):\n")
    assert failed.stderr.endswith("ValueError: \\x1b[2J\n")
