r"""The reward functions exactly as published, quirks included.

Five functions (`xmlcount`, `soft_format`, `strict_format`, `int`, `correctness`) come from Unsloth's GRPO notebook and
are used in the published 24 GB and 14 GB set-ups; two (`format`, `accuracy`) are used in the 16 GB set-up.  Copies on
the web show `\\n` and `\\s` in the patterns.  That is an artefact of their rendering: such patterns could not have
given the rewards logged in the published 24 GB run (strict_format 0.5, xmlcount 0.5).  The published correctness
function also prints one completion per call; here `samples.jsonl` records completions instead.

Quirks, each with a test:

- `.` does not match a line break in the format patterns, so reasoning of two or more lines earns nothing.
- `soft_format` does not match reasoning of one line either, because the prompt requests a line break after
  `<reasoning>`.
- `strict_format` and `format` require one or two line breaks at the end, and nothing after them.
- `xmlcount` subtracts 0.001 for every character after the answer.  If the final line break is missing too, it adds
  0.001 and then subtracts 0.001 for every character of the whole text, so its range has no lower bound.
- `int` accepts only digits: no sign, decimals or thousands separator, but any Unicode digit, even `²`.
- `correctness` and `accuracy` compare texts: `72.0`, `$72` and `1,000` are wrong if gold is `72` or `1000`.
- A completion without tags counts as one long answer.
"""

import re

Completions = list[list[dict[str, str]]]

STRICT = r"^<reasoning>\n.*?\n</reasoning>\n<answer>\n.*?\n</answer>\n$"
SOFT = r"<reasoning>.*?</reasoning>\s*<answer>.*?</answer>"


def extract_xml_answer(text: str) -> str:
    answer = text.split("<answer>")[-1]
    answer = answer.split("</answer>")[0]
    return answer.strip()


def count_xml(text: str) -> float:
    count = 0.0
    if text.count("<reasoning>\n") == 1:
        count += 0.125
    if text.count("\n</reasoning>\n") == 1:
        count += 0.125
    if text.count("\n<answer>\n") == 1:
        count += 0.125
        count -= len(text.split("\n</answer>\n")[-1]) * 0.001
    if text.count("\n</answer>") == 1:
        count += 0.125
        count -= (len(text.split("\n</answer>")[-1]) - 1) * 0.001
    return count


def xmlcount_reward_func(completions: Completions, **kwargs) -> list[float]:
    """Up to 0.5: 0.125 per tag, less 0.001 per trailing character."""
    return [count_xml(text) for text in _contents(completions)]


def soft_format_reward_func(completions: Completions, **kwargs) -> list[float]:
    """0.5 if the text begins with both blocks, each on one line; else 0."""
    return [0.5 if re.match(SOFT, text) else 0.0 for text in _contents(completions)]


def strict_format_reward_func(completions: Completions, **kwargs) -> list[float]:
    """0.5 if the text has the requested format with blocks of one line; else 0."""
    return [0.5 if re.match(STRICT, text) else 0.0 for text in _contents(completions)]


def int_reward_func(completions: Completions, **kwargs) -> list[float]:
    """0.5 if the answer consists of digits; else 0."""
    return [0.5 if extract_xml_answer(text).isdigit() else 0.0 for text in _contents(completions)]


def correctness_reward_func(completions: Completions, answer: list[str], **kwargs) -> list[float]:
    """2 if the answer is the gold text; else 0."""
    return [
        2.0 if extract_xml_answer(text) == gold else 0.0
        for text, gold in zip(_contents(completions), answer, strict=True)
    ]


def format_reward_func(completions: Completions, **kwargs) -> list[float]:
    """`strict_format` under its name in the set of two functions: the same pattern and value."""
    return strict_format_reward_func(completions)


def accuracy_reward_func(completions: Completions, answer: list[str], **kwargs) -> list[float]:
    """`correctness` under its name in the set of two functions: the same comparison and value."""
    return correctness_reward_func(completions, answer)


def _contents(completions: Completions) -> list[str]:
    return [completion[0]["content"] for completion in completions]
