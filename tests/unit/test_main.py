"""The package itself is the command."""

import subprocess
import sys


def test_the_package_can_be_run_as_a_module():
    shown = subprocess.run([sys.executable, "-m", "gsm8k_grpo", "--help"], capture_output=True, text=True, check=True)
    assert "train" in shown.stdout
    assert "evaluate" in shown.stdout
    assert shown.stderr == ""


def test_python_does_not_look_for_garbage_among_the_libraries_as_it_ends():
    code = (
        "import atexit, gc, sys; atexit.register(lambda: print('frozen', gc.get_freeze_count() > 0)); "
        "sys.argv = ['gsm8k-grpo', '--help']; from gsm8k_grpo.cli import main; main()"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines()[-1] == "frozen True"
