"""The set `longer`: stories like those of the set `simple`, but with four or five calculations instead of up to three.

A model trained on `simple` has seen all their sentences and sums, but no solution of this length.
"""

import random

from gsm8k_grpo.gsm8k.problems import simple
from gsm8k_grpo.records import PublishedProblem

STEPS = (4, 5)
LIMITS = f"{simple.LIMITS}  A problem has {STEPS[0]} or {STEPS[1]} of them."
SUMS = simple.SUMS


def problem(rng: random.Random) -> PublishedProblem:
    """A problem in GSM8K's format: its question, and its annotated solution with the `####` line."""
    return simple.problem(rng, STEPS)
