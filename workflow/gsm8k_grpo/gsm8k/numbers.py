r"""Read numbers: the normal form of a text that is one number, and the first or last number inside a longer text.

A number is read whole or not at all: a part of a number is never taken for the number.

| written | read |
|---|---|
| `1,072.50`, `1,00,000`, `9'500`, `9{,}500`, `9\,500`, `9,\!500`; thin and no-break spaces too | groups of digits |
| `3/4`, `\frac{3}{4}`, `1 3/4`, `1.5e3` | the value: 0.75, 0.75, 1.75, 1500 |
| `1/3`, `2/6` | `1/3`, since its decimals have no end |
| `50%`, `$50`, `50 €` | 50: percent and currency signs are units |
| `-3`, also with an en dash or the minus sign U+2212 | -3 |
| `5-10` | two numbers: after a digit, letter or bracket a dash is no sign |
| `12:30`, `3:4`, `1.2.3`, `1,5`, `2^3`, `7²`, `1½`, `1_000`, `5/7/2024`, `3/0`, `1e100` | no number |
| `x^2`, `72 m^2` | an exponent is not a number by itself: `x^2` has none, and `72 m^2` has 72 |
| `.5`, `$.50`; `Rs.72`, `left.18` | 0.5; after a letter or a bracket a dot is a full stop, so 72 and 18 |

Other operators separate numbers: the last one of `2*36=72` is 72, that of `2*36` is 36.
"""

import re
from decimal import Context, Decimal, Inexact
from fractions import Fraction

GROUPS = r"[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,2}(?:,[0-9]{2})+,[0-9]{3}|[0-9]+"
DIGITS = rf"(?:{GROUPS})(?:\.[0-9]+)?|\.[0-9]+"

# Characters that are replaced by their usual form.  Full-width characters, which Chinese texts use, are 0xFEE0 above
# ASCII.  Hyphens, the figure dash, the en dash and the minus count as dashes; the em dash separates words.
FULL_WIDTH = {chr(ord(c) + 0xFEE0): c for c in "0123456789,.%$+-/:'"} | {"\uffe5": "¥", "\uffe1": "£"}
DASHES = dict.fromkeys("\u2010\u2011\u2012\u2013\u2212\ufe63", "-")
INVISIBLE = dict.fromkeys("\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\u2061\u2062\u2063\u2064\ufeff", "")
USUAL = str.maketrans(FULL_WIDTH | DASHES | INVISIBLE | {"\u2044": "/", "\u2215": "/", "\u2019": "'", "\u02bc": "'"})
LATEX = {"{,}": ",", "\\!": "", "\\%": "%", "\\$": "¤"}  # `¤`, any currency: a `$` without backslash may open a formula
LATEX_SPACE = re.compile(r"(?<=[0-9])\\[,;: ](?=[0-9])")
LATEX_FRACTION = re.compile(
    r"(?P<whole>(?<=[0-9]))?\\[dtc]?frac\s?(?:\{\s?(?P<n>-?[0-9.,]+)\s?\}|(?P<n1>[0-9]))"
    r"\s?(?:\{\s?(?P<d>[0-9.,]+)\s?\}|(?P<d1>[0-9]))"
)
SPACED_GROUPS = re.compile(r"(?<![0-9.,])[0-9]{1,3}(?:[\u00a0\u2007\u2009\u202f'][0-9]{3})+(?![0-9])")

CURRENCY = "[$€£¥₹₩¤]"
ANSWER = re.compile(
    rf"(?P<sign>[-+]?)\s?{CURRENCY}?\s?(?P<sign_inside>[-+]?)"
    rf"(?:(?:(?P<whole>[0-9]+)[^\S\n]{{1,3}})?(?P<numerator>{DIGITS})[^\S\n]?/[^\S\n]?(?P<denominator>{DIGITS})"
    rf"|(?P<digits>{DIGITS})(?:[eE](?P<exponent>[-+]?[0-9]{{1,2}}))?)"
    rf"\s?(?:%|{CURRENCY})?"
)
# Marks around a number that are no words; they may be nested up to LAYERS deep.
DRESS = [("**", "**"), ("__", "__"), ("*", "*"), ("_", "_"), ("`", "`"), ("$$", "$$"), ("$", "$"), ("{", "}")]
DRESS += [("\\(", "\\)"), ("\\[", "\\]")]
DRESS += [(f"\\{name}{{", "}") for name in ("boxed", "fbox", "text", "textbf", "mathbf", "mathrm")]
LAYERS = 8
BEFORE_NUMBER = re.compile(r"#*+(?:[\s`{]|\*\*|__|\\\(|\\\[|\\boxed|\\text(?:bf)?)*+")

# A run of digits and signs is read as one number or as none.  The look-behinds tell a sign from a dash, and a decimal
# point from a full stop.
RUN = (
    rf"(?:(?<![^\W_])(?<![.)%€£¥₹₩°])(?<![0-9]\$)-)?{CURRENCY}?(?:(?<={CURRENCY})-)?"
    r"(?:(?P<whole>[0-9]++)[^\S\n]{1,3}(?=[0-9]++[^\S\n]?/[^\S\n]?[0-9]))?"
    r"(?P<rest>(?:(?<![\w.)\]}\"'!?%])\.)?[0-9]++"
    r"(?:(?:[.,:_']|\^\{?[-+]?|[^\S\n]?/[^\S\n]?\.?|[eE][-+]?)[0-9]++)*+(?:[^\S\n]?[¼-¾⅐-⅞]|[⁰¹²³⁴-⁹])?)"
)
TOKEN = re.compile(rf"(?P<power>\^\{{?[-+]?[0-9.,]+)|(?P<run>{RUN})")

# Operands of a fraction have at most so many characters, and the decimal form of a quotient at most EXACT digits.
LONGEST_OPERAND = 40
EXACT = 400


def number(text: str) -> str | None:
    """The normal form of a text that is a single number, else None.

    Everything that adds no words is ignored: `$`, `%`, a trailing full stop, Markdown's and LaTeX's marks, invisible
    characters.  The normal form has digits, `-` and `.` only, no leading zeros and no trailing zeros: `$1,072.50` gives
    `1072.5`, `**72.0**` gives `72`, `3/4` gives `0.75`.  A fraction with endless decimals is in lowest terms: `1/3`.
    """
    match = ANSWER.fullmatch(_undressed(_usual(text)))
    if match is None or (match["sign"] and match["sign_inside"]):
        return None
    value = _decimal(match) if match["digits"] else _quotient(match)
    if value is None:
        return None
    return ("-" if "-" in match["sign"] + match["sign_inside"] and value != "0" else "") + value


def first_number(text: str) -> str | None:
    """The number that a text begins with, in normal form; None if it does not begin with one."""
    usual = _usual(text)
    before = BEFORE_NUMBER.match(usual)
    assert before is not None, "it also matches nothing"
    return _read(TOKEN.match(usual, before.end()))


def last_number(text: str) -> str | None:
    """The last number inside a text, in normal form; None if there is none or the last run of digits is no number."""
    last = None
    for match in TOKEN.finditer(_usual(text)):
        if not match["power"]:
            last = match
    return _read(last)


def _usual(text: str) -> str:
    """The text with the usual form of every character and LaTeX command that numbers are written with."""
    text = text.translate(USUAL)
    if "\\" in text or "{,}" in text:
        for command, usual in LATEX.items():
            text = text.replace(command, usual)
        text = LATEX_SPACE.sub("\u00a0", text)
        text = LATEX_FRACTION.sub(_plain_fraction, text)
    return SPACED_GROUPS.sub(lambda match: re.sub("[^0-9]", ",", match[0]), text)


def _plain_fraction(match: re.Match[str]) -> str:
    space = " " if match["whole"] is not None else ""
    return f"{space}{match['n'] or match['n1']}/{match['d'] or match['d1']}"


def _undressed(text: str) -> str:
    """The text without marks around it and without one full stop at the end."""
    stopped = False
    for _ in range(LAYERS):
        text = text.strip()
        if not stopped and text.endswith((".", "\u3002")):
            stopped, text = True, text[:-1].rstrip()
        around = next((marks for marks in DRESS if _is_around(marks, text)), None)
        if around is None:
            break
        text = text[len(around[0]) : -len(around[1])]
    return text


def _is_around(marks: tuple[str, str], text: str) -> bool:
    return len(text) > len(marks[0] + marks[1]) and text.startswith(marks[0]) and text.endswith(marks[1])


def _read(match: re.Match[str] | None) -> str | None:
    if match is None or match["power"]:
        return None
    # `2 48/2` is not a mixed number, but two numbers.
    return number(match["run"]) or (number(match["rest"]) if match["whole"] else None)


def _decimal(match: re.Match[str]) -> str:
    return _plain(Decimal(f"{match['digits'].replace(',', '')}e{match['exponent'] or 0}"))


def _quotient(match: re.Match[str]) -> str | None:
    whole, numerator, denominator = (
        (match[name] or "0").replace(",", "") for name in ("whole", "numerator", "denominator")
    )
    if max(map(len, (whole, numerator, denominator))) > LONGEST_OPERAND or not Fraction(denominator):
        return None
    part = Fraction(numerator) / Fraction(denominator)
    if match["whole"] and part >= 1:
        return None
    value = Fraction(whole) + part
    context = Context(prec=EXACT)
    quotient = context.divide(Decimal(value.numerator), Decimal(value.denominator))
    return str(value) if context.flags[Inexact] else _plain(quotient)


def _plain(value: Decimal) -> str:
    digits = f"{value:f}"
    return digits.rstrip("0").rstrip(".") if "." in digits else digits
