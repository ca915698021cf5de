"""The training prompt: system prompts in English and Chinese, and the example of the one-shot prompt.

The English system prompt is that of the published notebooks (Unsloth's GRPO notebook and those derived from it), the
Chinese one that of the published 14 GB recipe.  The example of the one-shot prompt is ours.
"""

from typing import Literal

from gsm8k_grpo.records import Message

Answers = Literal["gsm8k", "free"]
Language = Literal["english", "chinese"]

TAGS = ("<reasoning>", "</reasoning>", "<answer>", "</answer>")
SYSTEM: dict[Language, str] = {
    "english": "\nRespond in the following format:\n<reasoning>\n...\n</reasoning>\n<answer>\n...\n</answer>\n",
    "chinese": "\n采用下方格式回复用户问题:\n<reasoning>\n...\n</reasoning>\n<answer>\n...\n</answer>\n",
}
EXAMPLE: dict[Language, tuple[str, str, str]] = {
    "english": (
        "A shelf holds 5 rows of 7 jars. 9 jars are sold. How many jars are left?",
        "The shelf holds 5 * 7 = 35 jars.\nAfter the sale 35 - 9 = 26 jars are left.",
        "26",
    ),
    "chinese": (
        "一个架子有5排,每排7个罐子。卖掉了9个。还剩多少个罐子?",
        "架子上有5 * 7 = 35个罐子。\n卖掉之后还剩35 - 9 = 26个罐子。",
        "26",
    ),
}


def tagged(reasoning: str, answer: str) -> str:
    """A completion in the format that the system prompt asks for."""
    return f"<reasoning>\n{reasoning}\n</reasoning>\n<answer>\n{answer}\n</answer>\n"


def chat(question: str, language: Language, one_shot: bool) -> list[Message]:
    """The messages for a question: the system prompt, with `one_shot` the example, and the question."""
    messages: list[Message] = [{"role": "system", "content": SYSTEM[language]}]
    if one_shot:
        example, reasoning, answer = EXAMPLE[language]
        messages += [
            {"role": "user", "content": example},
            {"role": "assistant", "content": tagged(reasoning, answer)},
        ]
    return [*messages, {"role": "user", "content": question}]


def prompt(question: str, answers: Answers, language: Language, one_shot: bool) -> list[Message]:
    """The messages for a question; with free answers, which have no format, just the question."""
    if answers == "free":
        return [{"role": "user", "content": question}]
    return chat(question, language, one_shot)
