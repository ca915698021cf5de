"""Word problems in GSM8K's format, generated from templates; `download.generated.problems` names one of the sets.

A set is a module with `problem(rng)`, which generates one problem, and two texts for the report: `LIMITS`, a sentence
about the numbers in its problems, and `SUMS`, the arithmetic that a model has to learn.
"""

import random
from collections.abc import Iterator
from types import ModuleType
from typing import Literal

from gsm8k_grpo.gsm8k.problems import longer, rich, simple
from gsm8k_grpo.records import PublishedProblem

ProblemSet = Literal["simple", "rich", "longer"]
SETS: dict[ProblemSet, ModuleType] = {"simple": simple, "rich": rich, "longer": longer}


def problems(name: ProblemSet, seed: int) -> Iterator[PublishedProblem]:
    """An endless, deterministic stream of a set's problems, without repeated questions."""
    rng = random.Random(seed)
    seen: set[str] = set()
    while True:
        problem: PublishedProblem = SETS[name].problem(rng)
        if problem["question"] not in seen:
            seen.add(problem["question"])
            yield problem
