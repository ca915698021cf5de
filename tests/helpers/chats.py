"""The prompt of a question as the configuration's defaults make it."""

from dataclasses import dataclass

from gsm8k_grpo.gsm8k.answer_formats import AnswerForm
from gsm8k_grpo.gsm8k.prompts import Answers, Language, prompt
from gsm8k_grpo.records import Message


@dataclass(frozen=True)
class Settings:
    """The keys of the section `extract` that shape a prompt."""

    answers: Answers = "gsm8k"
    answer_form: AnswerForm = "tags"
    language: Language = "english"
    system: str | None = None
    one_shot: bool = False


def chat(question: str, language: Language = "english", one_shot: bool = False) -> list[Message]:
    return prompt(question, Settings(language=language, one_shot=one_shot))
