"""Baseline prompts, which evaluation sets beside the training prompt: what a model does without its format.

`plain` is the question alone, without the chat template.  `4-shot` and `8-shot` set solved problems before it, drawn
from train by the seed, in the form of lm-evaluation-harness's task gsm8k; the 4 are the first of the 8.
"""

import random
from typing import Any, Literal

BaselinePrompt = Literal["plain", "4-shot", "8-shot"]

SHOTS: dict[BaselinePrompt, int] = {"plain": 0, "4-shot": 4, "8-shot": 8}
QUESTION = "Question:"  # with it a model goes on to a problem of its own, behind its answer to shots


def text(prompt: BaselinePrompt, question: str, shots: list[dict[str, Any]]) -> str:
    """The text that a model is given; `shots` are rows of train.

    Solutions stand in it as published: `#### 72` ends each, and so should the answer.
    """
    if SHOTS[prompt] == 0:
        return question
    solved = [f"{QUESTION} {row['question']}\nAnswer: {row['solution']}\n\n" for row in shots[: SHOTS[prompt]]]
    return "".join([*solved, f"{QUESTION} {question}\nAnswer:"])


def shots(train: list[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """The rows of train that are shown, in the order in which they are."""
    return random.Random(seed).sample(train, max(SHOTS.values()))
