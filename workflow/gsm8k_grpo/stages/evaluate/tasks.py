"""The tasks of an evaluation: which questions a model answers, with which prompt, and which file gets the answers."""

from dataclasses import dataclass
from typing import Final, Literal

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.gsm8k.few_shot import BaselinePrompt
from gsm8k_grpo.records import TaskInfo

TRAINED: Final = "trained"  # the name of the training prompt
CONTINUATION: Final = "continuation"  # the first half of a question as the prompt; its rows are not answers


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
        """The file of the greedy answers, relative to the model's folder."""
        if self.prompt != TRAINED:
            return f"prompts/{self.prompt}.jsonl"
        return "answers.jsonl" if self.set == "test" else f"sets/{self.set}.jsonl"

    def info(self, decoding: Literal["greedy", "sampled"]) -> TaskInfo:
        """The keys that identify the task in a row of metrics.json."""
        return {"set": self.set, "prompt": self.prompt, "decoding": decoding}


def tasks(params: Params) -> list[Task]:
    """The test split with the training prompt and with each of `evaluate.prompts`, then each of `evaluate.sets`."""
    return [
        Task("test"),
        *(Task("test", prompt) for prompt in params.evaluate.prompts),
        *(Task(name) for name in params.evaluate.sets),
    ]
