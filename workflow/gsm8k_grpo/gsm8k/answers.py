"""Extract answers: the gold number of a solution, the number a model gives, and whether two numbers are the same.

Extraction, the robust rewards and grading share these functions, so that they agree on what a correct answer is.
"""

import re
from decimal import Decimal

# Chinese texts write numbers in full-width forms, which are 0xFEE0 above ASCII.  U+2212 is the typographic minus,
# U+3002 the Chinese full stop.
FULL_WIDTH = str.maketrans({chr(ord(c) + 0xFEE0): c for c in "0123456789,.%$+-"} | {"\u2212": "-"})
DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+"
ANSWER = re.compile(rf"(?P<sign>[-+]?)\s?\$?\s?(?P<sign_inside>[-+]?)(?P<digits>{DIGITS})\s?%?[.\u3002]?")
NUMBER_IN_TEXT = re.compile(rf"(?:(?<![\w.)])-)?\$?(?:(?<=\$)-)?(?:{DIGITS})")
TAGGED_ANSWER = re.compile(r"<answer>((?:(?!<answer>).)*?)</answer>", re.DOTALL)


def number(text: str) -> str | None:
    """The normal form of a text that is a single number, else None.

    Thousands separators, `$`, `%`, a trailing full stop and full-width characters are accepted.  The normal form has
    none of them, and no plus sign, leading zeros or trailing zeros: `$1,072.50` gives `1072.5`, `72.0` gives `72`.
    """
    match = ANSWER.fullmatch(text.translate(FULL_WIDTH).strip())
    if match is None or (match["sign"] and match["sign_inside"]):
        return None
    value = Decimal(match["digits"].replace(",", ""))
    negative = "-" in match["sign"] + match["sign_inside"] and value != 0
    digits = f"{value:f}"
    if "." in digits:
        digits = digits.rstrip("0").rstrip(".")
    return ("-" if negative else "") + digits


def gold_answer(solution: str) -> str:
    """The number after `####` in a GSM8K solution, in normal form.

    Raises:
        ValueError: if `####` is missing or repeated, or the text after it is not a number.
    """
    parts = solution.split("####")
    if len(parts) != 2:
        raise ValueError(f"the answer has {len(parts) - 1} '####' marks, exactly one is expected")
    answer = number(parts[1])
    if answer is None:
        raise ValueError(f"'{parts[1].strip()[:40]}' after '####' is not a number")
    return answer


def free_answer(text: str) -> str | None:
    """The number after `####` in a free answer, in normal form; None if it has none.

    Other numbers are ignored, because nothing says which of them answers the question.
    """
    try:
        return gold_answer(text)
    except ValueError:
        return None


def set_answer(text: str) -> str:
    """The gold answer of a further test set, in normal form; `text` is a number or a GSM8K solution.

    Raises:
        ValueError: if it is neither.
    """
    if "####" in text:
        return gold_answer(text)
    answer = number(text)
    if answer is None:
        raise ValueError(f"the answer '{text.strip()[:40]}' is not a number")
    return answer


def xml_answer(completion: str) -> str | None:
    """The text of the last closed `<answer>` block, stripped; None if there is none."""
    blocks = TAGGED_ANSWER.findall(completion)
    return blocks[-1].strip() if blocks else None


def last_number(completion: str) -> str | None:
    """The last number of a text in normal form, whatever the format; None if there is none."""
    numbers = NUMBER_IN_TEXT.findall(completion.translate(FULL_WIDTH))
    return number(numbers[-1]) if numbers else None


def same_answer(a: str | None, b: str | None) -> bool:
    """Whether two texts are the same number, as `1,072.0` and `$1072` are; False if either is not a number."""
    return a is not None and b is not None and number(a) is not None and number(a) == number(b)
