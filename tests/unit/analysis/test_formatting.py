"""Figures as readers see them."""

import pytest
from gsm8k_grpo.analysis import formatting


@pytest.mark.parametrize(
    ("function", "value", "expected"),
    [
        (formatting.points, 0.086, "+8.6"),
        (formatting.points, -0.106, "\u221210.6"),
        (formatting.points, -0.0001, "0.0"),
        (formatting.p_value, 0.00004, "< 0.0001"),
        (formatting.p_value, 0.0499, "0.0499"),
        (formatting.duration, 112.93, "112.9 s"),
        (formatting.duration, 3600, "60 min"),
        (formatting.duration, 62_352.0686, "17.3 h"),
        (formatting.energy, 1.254, "1.25 kWh"),
        (formatting.energy, 0.0124, "12 Wh"),
        (formatting.shown, [1.0, 0.5], "1.0, 0.5"),
        (formatting.shown, None, "null"),
        (formatting.shown, "cosine", "cosine"),
    ],
)
def test_values_are_formatted_for_readers(function, value, expected):
    assert function(value) == expected
