"""The 95 % interval of a figure in the results."""

Interval = list[float]
"""Lower and upper bound of a 95 % interval, as JSON writes a pair."""
