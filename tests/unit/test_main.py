"""The package itself is the command."""

import subprocess
import sys


def test_the_package_can_be_run_as_a_module():
    shown = subprocess.run([sys.executable, "-m", "gsm8k_grpo", "--help"], capture_output=True, text=True, check=True)
    assert "train" in shown.stdout
    assert "evaluate" in shown.stdout
    assert shown.stderr == ""
