"""Progress on a terminal and in a log: what stands there, to the byte."""

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


def counted(seconds: float, steps: int = 3) -> list[str]:
    script = COUNT.format(seconds=seconds, steps=steps)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stderr.splitlines()


def test_a_log_gets_whole_lines_with_the_time_left():
    assert counted(0.05) == [
        "count: 0 of 3 steps, 00:00 so far, ? left",
        "count: 1 of 3 steps, 00:00 so far, 00:00 left",
        "count: 2 of 3 steps, 00:00 so far, 00:00 left",
        "count: 3 of 3 steps, 00:00 so far, 00:00 left",
    ]


def test_a_log_gets_a_line_only_now_and_then_and_one_at_the_end():
    lines = counted(60)
    assert lines == ["count: 0 of 3 steps, 00:00 so far, ? left", "count: 3 of 3 steps, 00:00 so far, 00:00 left"]


def test_what_was_broken_off_says_how_far_it_came():
    assert counted(60, steps=2)[-1] == "count: 2 of 3 steps, 00:00 so far, 00:00 left"


def test_a_terminal_gets_a_bar_that_writes_over_itself():
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    script = COUNT.format(seconds=60, steps=3)
    subprocess.run([sys.executable, "-c", script], stderr=theirs, check=True)
    os.close(theirs)
    shown = os.read(ours, 10000).decode()
    assert "100%" in shown
    assert shown.count("\n") == 1
    assert "\r" in shown.rstrip("\r\n")
