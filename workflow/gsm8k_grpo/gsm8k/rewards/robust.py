"""The published rewards without their quirks.

Reasoning may have several lines, the text may end in spaces or end-of-sequence tokens, and a number may be written in
any usual way.  The ranges are those of the published functions, without exceptions: `xmlcount` 0 to 0.5; `soft_format`,
`strict_format`, `format` and `int` 0 or 0.5; `correctness` and `accuracy` 0 or 2.
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
    """0.125 per tag that occurs exactly once and after the tags that should precede it."""
    return [_count_tags(text) for text in _contents(completions)]


def soft_format_reward_func(completions: Completions, **kwargs) -> list[float]:
    """0.5 if the text consists of the reasoning and then the answer, with line breaks anywhere; else 0."""
    return [0.5 if _matches(SOFT, text) else 0.0 for text in _contents(completions)]


def strict_format_reward_func(completions: Completions, **kwargs) -> list[float]:
    """0.5 if the text has exactly the requested format, line breaks included, with any number of lines per block."""
    return [0.5 if well_formed(text) else 0.0 for text in _contents(completions)]


def int_reward_func(completions: Completions, **kwargs) -> list[float]:
    """0.5 if the tagged answer is a number, as all of GSM8K's are; sign, decimals and separators are allowed."""
    return [0.5 if number(xml_answer(text) or "") is not None else 0.0 for text in _contents(completions)]


def correctness_reward_func(completions: Completions, answer: list[str], **kwargs) -> list[float]:
    """2 if the tagged answer is the gold number, however it is written."""
    return [
        2.0 if same_answer(xml_answer(text), gold) else 0.0
        for text, gold in zip(_contents(completions), answer, strict=True)
    ]


def format_reward_func(completions: Completions, **kwargs) -> list[float]:
    """`strict_format` under its name in the published set of two functions."""
    return strict_format_reward_func(completions)


def accuracy_reward_func(completions: Completions, answer: list[str], **kwargs) -> list[float]:
    """`correctness` under its name in the published set of two functions."""
    return correctness_reward_func(completions, answer)


def well_formed(text: str) -> bool:
    """Whether a completion has the requested format: both blocks, each tag once on its own line, nothing else."""
    return _matches(STRICT, text)


def _matches(pattern: re.Pattern[str], text: str) -> bool:
    body = END_OF_SEQUENCE.sub("", text)
    match = pattern.fullmatch(body)
    return match is not None and all(map(str.strip, match.groups())) and all(body.count(tag) == 1 for tag in TAGS)


def _count_tags(text: str) -> float:
    total, previous = 0.0, -1
    for tag in TAGS:
        position = text.find(tag)
        if text.count(tag) == 1 and position > previous:
            total, previous = total + 0.125, position
    return total


def _contents(completions: Completions) -> list[str]:
    return [completion[0]["content"] for completion in completions]
