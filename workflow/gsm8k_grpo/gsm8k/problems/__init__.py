"""Word problems in GSM8K's format, made from templates: the sets that `download.generated.problems` chooses from.

A set is a module with `problem(rng)`, one problem as published, and what the report says of its numbers: `LIMITS`, a
sentence, and `SUMS`, what there is to learn.
"""

import random
from collections.abc import Iterator
from typing import Literal

from gsm8k_grpo.gsm8k.problems import longer, rich, simple

ProblemSet = Literal["simple", "rich", "longer"]
SETS = {"simple": simple, "rich": rich, "longer": longer}


def problems(name: ProblemSet, seed: int) -> Iterator[dict[str, str]]:
    """An endless, deterministic stream of a set's problems, no question twice."""
    rng, seen = random.Random(seed), set()
    while True:
        row = SETS[name].problem(rng)
        if row["question"] not in seen:
            seen.add(row["question"])
            yield row
