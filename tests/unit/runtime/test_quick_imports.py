"""What quick imports leave behind, in a process of its own, since the garbage collector is that of a process."""

import subprocess
import sys

CODE = """
import gc, sys
from gsm8k_grpo.runtime.quick_imports import quick_imports
with quick_imports():
    enabled, kept = gc.isenabled(), [[number] for number in range(100_000)]
    try:
        import sklearn
        found = True
    except ImportError:
        found = False
print(enabled, found, gc.isenabled(), gc.get_freeze_count() > 100_000, 'sklearn' in sys.modules)
"""


def test_objects_of_imports_are_permanent_and_the_collector_runs_again():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", "True", "True", "False"]
