"""The set `longer`: stories of the set `simple` with four or five calculations, one or two more than it has.

A model trained on `simple` has seen every sentence of them and every sum, and no solution as long.
"""

import random

from gsm8k_grpo.gsm8k.problems import simple

STEPS = (4, 5)
LIMITS = f"{simple.LIMITS}  A problem has {STEPS[0]} or {STEPS[1]} of them."
SUMS = simple.SUMS


def problem(rng: random.Random) -> dict[str, str]:
    """One problem as published: `question` and `answer` (the annotated solution with its `####` line)."""
    return simple.problem(rng, STEPS)
