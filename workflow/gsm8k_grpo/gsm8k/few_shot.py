"""Baseline prompts, which show what a model can do without the format of the training prompt.

`plain` is the question alone, without the chat template.  `4-shot` and `8-shot` put solved problems before it, in the
form of lm-evaluation-harness's task gsm8k.  The seed draws the problems from train; the 4 are the first of the 8.
"""

import random
from collections.abc import Sequence
from typing import Literal

from gsm8k_grpo.records import Example

BaselinePrompt = Literal["plain", "4-shot", "8-shot"]

SHOTS: dict[BaselinePrompt, int] = {"plain": 0, "4-shot": 4, "8-shot": 8}
QUESTION = "Question:"
STOP = QUESTION  # after few-shot examples models tend to invent another problem; stop there


def prompt_text(prompt: BaselinePrompt, question: str, examples: Sequence[Example]) -> str:
    """The text that a model gets, with the first 0, 4 or 8 of the `examples`.

    Their solutions are shown as published, so each ends like `#### 72`, and the model's answer should too.
    """
    if SHOTS[prompt] == 0:
        return question
    solved = [f"{QUESTION} {row['question']}\nAnswer: {row['solution']}\n\n" for row in examples[: SHOTS[prompt]]]
    return "".join([*solved, f"{QUESTION} {question}\nAnswer:"])


def draw_examples(train: Sequence[Example], seed: int) -> list[Example]:
    """Rows of train, enough for every prompt, in the order in which they are shown."""
    return random.Random(seed).sample(train, max(SHOTS.values()))
