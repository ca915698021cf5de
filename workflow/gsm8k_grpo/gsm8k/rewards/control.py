"""Rewards without information about the completion: a run with them must not learn to reason."""

import random
from typing import Any


def random_reward_func(completions: list[Any], trainer_state: Any, **kwargs) -> list[float]:
    """0 or 2 at random; every run draws the same values at the same step."""
    toss = random.Random(trainer_state.global_step)
    return [2.0 * toss.randint(0, 1) for _ in completions]
