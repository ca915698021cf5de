"""The passes of an evaluation: which set of questions every model is asked with which prompt, and where answers go."""

from dataclasses import dataclass
from typing import Final, Literal

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.gsm8k.few_shot import BaselinePrompt

TRAINED: Final = "trained"  # the name of the training prompt


@dataclass(frozen=True)
class Task:
    """A set of questions (`test`, `validation` or a name of `evaluate.sets`) with a prompt."""

    set: str
    prompt: Literal["trained"] | BaselinePrompt = TRAINED

    @property
    def name(self) -> str:
        return self.set if self.prompt == TRAINED else f"{self.set}, {self.prompt}"

    @property
    def file(self) -> str:
        """The file of the answers in the model's folder."""
        if self.prompt != TRAINED:
            return f"prompts/{self.prompt}.jsonl"
        return "answers.jsonl" if self.set == "test" else f"sets/{self.set}.jsonl"


def tasks(params: Params) -> list[Task]:
    """The test split with the training prompt, then with each of `evaluate.prompts`, then each of `evaluate.sets`."""
    return [
        Task("test"),
        *(Task("test", prompt) for prompt in params.evaluate.prompts),
        *(Task(name) for name in params.evaluate.sets),
    ]
