"""Several seeds: how much a figure depends on the seed of training and sampling, the data and the base being the same.

With one seed there is no telling; `sd` is None then.
"""

from collections.abc import Mapping
from statistics import fmean, stdev
from typing import Any


def spread(values: Mapping[int, float]) -> dict[str, Any]:
    """The figure of each seed's run, their mean, and their sample standard deviation (of n - 1)."""
    found = list(values.values())
    return {
        "seeds": list(values),
        "values": found,
        "mean": fmean(found),
        "sd": stdev(found) if len(found) > 1 else None,
    }
