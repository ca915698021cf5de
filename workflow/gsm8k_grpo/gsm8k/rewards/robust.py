"""The published ideas made right: multi-line text, trailing end-of-sequence text and spaces, any way to write a number.

The ranges are the published ones, and fixed: `xmlcount` 0 to 0.5, `soft_format`, `strict_format`, `format` and
`int` 0 or 0.5, `correctness` and `accuracy` 0 or 2.
"""

import re

from gsm8k_grpo.gsm8k.answers import number, same_answer, xml_answer
from gsm8k_grpo.gsm8k.prompts import TAGS

Completions = list[list[dict[str, str]]]

# The look-behind and the possessive `*+` keep the time linear in a long run of spaces.
END_OF_SEQUENCE = re.compile(r"(?<!\s)(?:\s|<\|[a-z_]+\|>|</s>)*+\Z")
STRICT = re.compile(r"<reasoning>\n(.+)\n</reasoning>\n<answer>\n(.+)\n</answer>", re.DOTALL)
SOFT = re.compile(r"\s*<reasoning>(.+)</reasoning>\s*<answer>(.+)</answer>", re.DOTALL)


def xmlcount_reward_func(completions: Completions, **kwargs) -> list[float]:
    """0.125 per tag that stands exactly once, and behind those before it."""
    return [_count_tags(text) for text in _contents(completions)]


def soft_format_reward_func(completions: Completions, **kwargs) -> list[float]:
    """0.5 where reasoning, then answer are all there is, wherever the lines break."""
    return [0.5 if _matches(SOFT, text) else 0.0 for text in _contents(completions)]


def strict_format_reward_func(completions: Completions, **kwargs) -> list[float]:
    """0.5 where the text has the asked format to the line break, with blocks of any number of lines."""
    return [0.5 if well_formed(text) else 0.0 for text in _contents(completions)]


def int_reward_func(completions: Completions, **kwargs) -> list[float]:
    """0.5 where the tagged answer is one number, as GSM8K's all are: sign, decimals and separators allowed."""
    return [0.5 if number(xml_answer(text) or "") is not None else 0.0 for text in _contents(completions)]


def correctness_reward_func(completions: Completions, answer: list[str], **kwargs) -> list[float]:
    """2 where the tagged answer is the gold number, however it is written."""
    return [
        2.0 if same_answer(xml_answer(text), gold) else 0.0
        for text, gold in zip(_contents(completions), answer, strict=True)
    ]


def format_reward_func(completions: Completions, **kwargs) -> list[float]:
    """The two-function set's name for `strict_format`."""
    return strict_format_reward_func(completions)


def accuracy_reward_func(completions: Completions, answer: list[str], **kwargs) -> list[float]:
    """The two-function set's name for `correctness`."""
    return correctness_reward_func(completions, answer)


def well_formed(text: str) -> bool:
    """Whether a completion has the asked format: both blocks, each tag once on a line of its own, nothing else."""
    return _matches(STRICT, text)


def _matches(pattern: re.Pattern[str], text: str) -> bool:
    body = END_OF_SEQUENCE.sub("", text)
    match = pattern.fullmatch(body)
    return match is not None and all(map(str.strip, match.groups())) and all(body.count(tag) == 1 for tag in TAGS)


def _count_tags(text: str) -> float:
    count, behind = 0.0, -1
    for tag in TAGS:
        place = text.find(tag)
        if text.count(tag) == 1 and place > behind:
            count, behind = count + 0.125, place
    return count


def _contents(completions: Completions) -> list[str]:
    return [completion[0]["content"] for completion in completions]
