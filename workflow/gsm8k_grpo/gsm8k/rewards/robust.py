"""The published rewards without their quirks.

Reasoning may have several lines, the text may end in spaces or end-of-sequence tokens, a thought between `<think>` and
`</think>` may precede it, and a number may be written in any usual way.  The ranges are those of the published
functions, without exceptions: `xmlcount` 0 to 0.5; `soft_format`, `strict_format`, `format` and `int` 0 or 0.5;
`correctness` and `accuracy` 0 or 2.

Functions with an argument `format` read the answer in that format; the others know only tags.
"""

from gsm8k_grpo.gsm8k.answer_formats import FORMATS, AnswerFormat
from gsm8k_grpo.gsm8k.answers import after_thought, number, same_answer
from gsm8k_grpo.gsm8k.tags import TAGS, blocks

Completions = list[list[dict[str, str]]]
WITH_TAGS = FORMATS["tags"]


def xmlcount_reward_func(completions: Completions, **kwargs) -> list[float]:
    """0.125 per tag that occurs exactly once and after the tags that should precede it."""
    return [_count_tags(text) for text in _contents(completions)]


def soft_format_reward_func(completions: Completions, **kwargs) -> list[float]:
    """0.5 if the text consists of the reasoning and then the answer, with spaces and line breaks anywhere; else 0."""
    return [0.5 if blocks(text) else 0.0 for text in _contents(completions)]


def strict_format_reward_func(completions: Completions, format: AnswerFormat = WITH_TAGS, **kwargs) -> list[float]:
    """0.5 if the text has the requested format: reasoning of any number of lines, then one answer; else 0."""
    return [0.5 if format.well_formed(text) else 0.0 for text in _contents(completions)]


def int_reward_func(completions: Completions, format: AnswerFormat = WITH_TAGS, **kwargs) -> list[float]:
    """0.5 if the answer is a number, as all of GSM8K's are, with sign, decimals and separators allowed; else 0."""
    return [0.5 if number(format.strict_answer(text) or "") is not None else 0.0 for text in _contents(completions)]


def correctness_reward_func(
    completions: Completions, answer: list[str], format: AnswerFormat = WITH_TAGS, **kwargs
) -> list[float]:
    """2 if the answer is the gold number, however it is written; else 0."""
    return [
        2.0 if same_answer(format.strict_answer(text), gold) else 0.0
        for text, gold in zip(_contents(completions), answer, strict=True)
    ]


def format_reward_func(completions: Completions, format: AnswerFormat = WITH_TAGS, **kwargs) -> list[float]:
    """`strict_format` under its name in the published set of two functions."""
    return strict_format_reward_func(completions, format)


def accuracy_reward_func(
    completions: Completions, answer: list[str], format: AnswerFormat = WITH_TAGS, **kwargs
) -> list[float]:
    """`correctness` under its name in the published set of two functions."""
    return correctness_reward_func(completions, answer, format)


def _count_tags(text: str) -> float:
    text, total, previous = after_thought(text), 0.0, -1
    for tag in TAGS:
        position = text.find(tag)
        if text.count(tag) == 1 and position > previous:
            total, previous = total + 0.125, position
    return total


def _contents(completions: Completions) -> list[str]:
    return [completion[0]["content"] for completion in completions]
