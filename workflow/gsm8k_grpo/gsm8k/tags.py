"""The answer format of the published notebooks: reasoning and answer, each between tags."""

import re

from gsm8k_grpo.gsm8k.answers import after_thought

TAGS = ("<reasoning>", "</reasoning>", "<answer>", "</answer>")

# For the reversed text: a search for what a text ends in would try every position, which takes quadratic time.
END_OF_SEQUENCE_BACKWARDS = re.compile(r"(?:\s|>\|[a-z_]+\|<|>s/<)*+")


def tagged(reasoning: str, answer: str) -> str:
    """A completion in the format that the system prompt asks for."""
    return f"<reasoning>\n{reasoning}\n</reasoning>\n<answer>\n{answer}\n</answer>\n"


def well_formed(text: str) -> bool:
    """Whether a completion has the requested format: both blocks, each tag once on its own line, nothing else.

    Spaces around a tag and blank lines after it are allowed; a line break before the first tag is not.  A thought
    before the blocks does not count.
    """
    found = blocks(text)
    if found is None:
        return False
    before, reasoning, between, answer = found
    return "\n" not in before and "\n" in between and _is_on_own_lines(reasoning) and _is_on_own_lines(answer)


def blocks(text: str) -> tuple[str, str, str, str] | None:
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
    """The number of characters at the end of a text that are spaces, line breaks and end-of-sequence tokens."""
    match = END_OF_SEQUENCE_BACKWARDS.match(text[::-1])
    assert match is not None, "it also matches nothing"
    return match.end()


def _is_on_own_lines(block: str) -> bool:
    """Whether a line break follows the tag that opens a block, and one precedes the tag that closes it."""
    return "\n" in block[: -len(block.lstrip())] and "\n" in block[len(block.rstrip()) :]
