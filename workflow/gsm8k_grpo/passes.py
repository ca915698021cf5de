"""The passes of an evaluation: which set of questions every model is asked with which prompt, and where answers go."""

from dataclasses import dataclass
from typing import Final, Literal

from gsm8k_grpo.baselines import Baseline
from gsm8k_grpo.params import Params

TRAINED: Final = "trained"  # the name of the training prompt


@dataclass(frozen=True)
class Pass:
    """A set of questions (`test`, `validation` or a name of `evaluate.sets`) with a prompt."""

    set: str
    prompt: Literal["trained"] | Baseline = TRAINED

    @property
    def name(self) -> str:
        return self.set if self.prompt == TRAINED else f"{self.set}, {self.prompt}"

    @property
    def file(self) -> str:
        """The file of the answers in the model's folder."""
        if self.prompt != TRAINED:
            return f"prompts/{self.prompt}.jsonl"
        return "answers.jsonl" if self.set == "test" else f"sets/{self.set}.jsonl"


def passes(params: Params) -> list[Pass]:
    """The test split with the training prompt, then with each of `evaluate.prompts`, then each of `evaluate.sets`."""
    return [
        Pass("test"),
        *(Pass("test", prompt) for prompt in params.evaluate.prompts),
        *(Pass(name) for name in params.evaluate.sets),
    ]
