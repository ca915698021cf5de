"""The published rewards without their quirks.

Reasoning may have several lines, the text may end in spaces or end-of-sequence tokens, a thought between `<think>` and
`</think>` may precede it, and a number may be written in any usual way.  The ranges are those of the published
functions, without exceptions: `xmlcount` 0 to 0.5; `soft_format`, `strict_format`, `format` and `int` 0 or 0.5;
`correctness` and `accuracy` 0 or 2.
"""

import re

from gsm8k_grpo.gsm8k.answers import after_thought, number, same_answer, xml_answer
from gsm8k_grpo.gsm8k.prompts import TAGS

Completions = list[list[dict[str, str]]]

# Read backwards, since a search for the end of a text from every position takes quadratic time.
END_OF_SEQUENCE_BACKWARDS = re.compile(r"(?:\s|>\|[a-z_]+\|<|>s/<)*+")


def xmlcount_reward_func(completions: Completions, **kwargs) -> list[float]:
    """0.125 per tag that occurs exactly once and after the tags that should precede it."""
    return [_count_tags(text) for text in _contents(completions)]


def soft_format_reward_func(completions: Completions, **kwargs) -> list[float]:
    """0.5 if the text consists of the reasoning and then the answer, with spaces and line breaks anywhere; else 0."""
    return [0.5 if _blocks(text) else 0.0 for text in _contents(completions)]


def strict_format_reward_func(completions: Completions, **kwargs) -> list[float]:
    """0.5 if the text has the requested format, each tag on its own line, with any number of lines per block."""
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
    """Whether a completion has the requested format: both blocks, each tag once on its own line, nothing else.

    Spaces around a tag and blank lines behind it are no fault; a line break before the first tag is one.  A thought
    before the blocks is not looked at.
    """
    blocks = _blocks(text)
    if blocks is None:
        return False
    before, reasoning, between, answer = blocks
    return "\n" not in before and "\n" in between and _is_on_own_lines(reasoning) and _is_on_own_lines(answer)


def _blocks(text: str) -> tuple[str, str, str, str] | None:
    """What is before the reasoning, the reasoning, what is between the blocks, and the answer.

    None unless the text is these two blocks: each contains something, each tag occurs once, and only spaces and line
    breaks are around them.
    """
    body = after_thought(text)
    body = body[: len(body) - _end_of_sequence(body)]
    if any(body.count(tag) != 1 for tag in TAGS):
        return None
    before, _, rest = body.partition(TAGS[0])
    reasoning, _, rest = rest.partition(TAGS[1])
    between, _, rest = rest.partition(TAGS[2])
    answer, closed, behind = rest.partition(TAGS[3])
    if not closed or before.strip() or between.strip() or behind or not reasoning.strip() or not answer.strip():
        return None
    return before, reasoning, between, answer


def _end_of_sequence(text: str) -> int:
    """How many characters of spaces, line breaks and end-of-sequence tokens a text ends in."""
    match = END_OF_SEQUENCE_BACKWARDS.match(text[::-1])
    assert match is not None, "it also matches nothing"
    return match.end()


def _is_on_own_lines(block: str) -> bool:
    """Whether a line break follows the tag that opens a block, and one precedes the tag that closes it."""
    return "\n" in block[: -len(block.lstrip())] and "\n" in block[len(block.rstrip()) :]


def _count_tags(text: str) -> float:
    text, total, previous = after_thought(text), 0.0, -1
    for tag in TAGS:
        position = text.find(tag)
        if text.count(tag) == 1 and position > previous:
            total, previous = total + 0.125, position
    return total


def _contents(completions: Completions) -> list[str]:
    return [completion[0]["content"] for completion in completions]
