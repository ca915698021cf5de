"""Progress on a terminal and in a log, to the byte."""

import os
import pty
import subprocess
import sys
import termios

COUNT = """
import time
from gsm8k_grpo.runtime import progress
progress.LOG_SECONDS = {seconds}
with progress.ProgressBar(total=3, desc="count", unit="step") as bar:
    for _ in range({steps}):
        time.sleep(0.1)
        bar.update()
"""


def log_of_counting(seconds: float, steps: int = 3) -> list[str]:
    """The lines of a log after so many of three steps, with a line after `seconds` at the earliest."""
    script = COUNT.format(seconds=seconds, steps=steps)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stderr.splitlines()


def test_a_log_gets_whole_lines_with_the_time_left():
    assert log_of_counting(0.05) == [
        "count: 0 of 3 steps, 00:00 so far, ? left",
        "count: 1 of 3 steps, 00:00 so far, 00:00 left",
        "count: 2 of 3 steps, 00:00 so far, 00:00 left",
        "count: 3 of 3 steps, 00:00 so far, 00:00 left",
    ]


def test_a_log_gets_a_line_only_after_a_while_and_one_at_the_end():
    assert log_of_counting(60) == [
        "count: 0 of 3 steps, 00:00 so far, ? left",
        "count: 3 of 3 steps, 00:00 so far, 00:00 left",
    ]


def test_the_last_line_of_interrupted_work_shows_how_far_it_came():
    assert log_of_counting(60, steps=2)[-1] == "count: 2 of 3 steps, 00:00 so far, 00:00 left"


def test_a_terminal_gets_a_bar_that_overwrites_itself():
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    script = COUNT.format(seconds=60, steps=3)
    subprocess.run([sys.executable, "-c", script], stderr=theirs, check=True)
    os.close(theirs)
    shown = os.read(ours, 10000).decode()
    assert "100%" in shown
    assert shown.count("\n") == 1
    assert "\r" in shown.rstrip("\r\n")
