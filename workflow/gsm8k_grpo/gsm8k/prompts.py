"""The training prompt: system prompts in English and Chinese, and the example of the one-shot prompt.

The English system prompt for tags is that of the published notebooks (Unsloth's GRPO notebook and those derived from
it), and the Chinese one is that of the published 14 GB recipe.  The prompts for a box are in the words of Qwen2.5-Math.
The prompts for `####` and the example of the one-shot prompt are this project's own.
"""

import re
from typing import Literal, Protocol

from gsm8k_grpo.gsm8k.answer_formats import FORMATS, MARKED, AnswerForm, AnswerFormat, Answers, formatted
from gsm8k_grpo.records import Message

Language = Literal["english", "chinese"]

# The form of control tokens in Qwen, Llama 3, Phi and gpt-oss, and, with full-width bars, in DeepSeek.
CONTROL_TOKEN = re.compile(r"<([|｜])[^\s<>|｜]{1,60}\1>")

SYSTEM: dict[AnswerForm, dict[Language, str]] = {
    "tags": {
        "english": "\nRespond in the following format:\n<reasoning>\n...\n</reasoning>\n<answer>\n...\n</answer>\n",
        "chinese": "\n采用下方格式回复用户问题:\n<reasoning>\n...\n</reasoning>\n<answer>\n...\n</answer>\n",
    },
    "boxed": {
        "english": "Please reason step by step, and put your final answer within \\boxed{}.",
        "chinese": "请通过逐步推理来解答问题,并把最终答案放置于\\boxed{}中。",
    },
    "hash": {
        "english": "Reason step by step. On the last line write #### and then the final answer as a number.",
        "chinese": "请逐步推理,并在最后一行写出####和最终答案的数字。",
    },
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


class PromptSettings(Protocol):
    """What shapes a prompt; the section `extract` of the configuration has these keys."""

    @property
    def answers(self) -> Answers: ...
    @property
    def answer_form(self) -> AnswerForm: ...
    @property
    def language(self) -> Language: ...
    @property
    def system(self) -> str | None: ...
    @property
    def one_shot(self) -> bool: ...


def require_plain(text: str, name: str) -> None:
    """Require that a text from outside holds no control token, such as `<|im_end|>`.

    The chat template renders a prompt as one text, and the tokenizer reads such characters in a question as the control
    token itself: the question could end its turn and begin other turns, in training, evaluation and `ask` alike.
    Tokenizing without control tokens is no way out, since those of the template would be lost too.

    Raises:
        ValueError: naming the token; the message calls the text `name`.
    """
    found = CONTROL_TOKEN.search(text)
    if found:
        raise ValueError(f"{name} holds {found[0]}, a control token of chat templates; take it out")


def prompt(question: str, settings: PromptSettings) -> list[Message]:
    """The messages for a question: the system prompt, the example if `one_shot`, and the question.

    Free answers have no format, so their prompt has a system prompt only where `system` gives one.
    """
    messages: list[Message] = []
    system = _system(settings)
    if system:
        messages.append({"role": "system", "content": system})
    if settings.one_shot:
        example, reasoning, answer = EXAMPLE[settings.language]
        messages += [
            {"role": "user", "content": example},
            {"role": "assistant", "content": formatted(settings.answer_form, reasoning, answer)},
        ]
    return [*messages, {"role": "user", "content": question}]


def trained_format(settings: PromptSettings) -> AnswerFormat:
    """The format that a model is trained to answer in: that of the prompt, or `####` where answers are free."""
    return MARKED if settings.answers == "free" else FORMATS[settings.answer_form]


def _system(settings: PromptSettings) -> str:
    if settings.system is not None:
        return settings.system
    return "" if settings.answers == "free" else SYSTEM[settings.answer_form][settings.language]
