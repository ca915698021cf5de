"""The interval of a figure."""

Interval = list[float]
"""Lower and upper bound of a 95 % interval, as JSON writes a pair."""
