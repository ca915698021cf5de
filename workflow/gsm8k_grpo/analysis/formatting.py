"""Write values as the report shows them."""

import json
from collections.abc import Iterable
from typing import Any

SMALLEST_P = 0.0001


def unbroken(sentence: str) -> str:
    """The sentence with no-break spaces before its percent signs."""
    return sentence.replace(" %", "\u00a0%")


def p_value(p: float) -> str:
    return f"{p:.4f}" if p >= SMALLEST_P else f"< {SMALLEST_P}"


def duration(seconds: float) -> str:
    """Seconds in a readable unit: `112.9 s`, `31 min`, `17.3 h`."""
    if seconds < 600:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def energy(kwh: float) -> str:
    """Kilowatt hours, or watt hours if below 0.1 kWh: `1.25 kWh`, `12 Wh`."""
    return f"{kwh:.2f} kWh" if kwh >= 0.1 else f"{1000 * kwh:.0f} Wh"


def shown(value: Any) -> str:
    """A configuration value as a cell of a table."""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def interval(low: float, high: float) -> str:
    """An interval of a share, in percent: `8.0 to 13.4`."""
    return f"{100 * low:.1f} to {100 * high:.1f}"


def points(share: float) -> str:
    """A difference of shares in percentage points, with its sign: `+8.6`."""
    written = f"{100 * share:+.1f}".replace("-", "\u2212")
    return "0.0" if written[1:] == "0.0" else written


def joined(parts: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *most, last = parts
    return f"{', '.join(most)} and {last}" if most else last
