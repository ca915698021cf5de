"""How much an accuracy depends on the seed of training and sampling; data and base model are the same for all seeds.

With one seed the spread is unknown, and `sd` is None.
"""

from collections.abc import Mapping
from statistics import fmean, stdev

from gsm8k_grpo.records import Spread


def spread(by_seed: Mapping[int, float]) -> Spread:
    """The value of each seed's run, their mean, and their sample standard deviation (divided by n - 1)."""
    values = list(by_seed.values())
    return {
        "seeds": list(by_seed),
        "values": values,
        "mean": fmean(values),
        "sd": stdev(values) if len(values) > 1 else None,
    }
