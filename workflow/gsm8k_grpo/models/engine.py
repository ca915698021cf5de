"""What an engine is: many prompts in, completions out in the same order; and how a row of tokens is read."""

import bisect
from dataclasses import dataclass
from typing import Protocol

from transformers import PreTrainedTokenizerBase

from gsm8k_grpo.gsm8k.prompts import Message
from gsm8k_grpo.models import loading

Prompt = list[Message] | str  # messages go through the chat template, a text is given as it is


@dataclass(frozen=True)
class Completion:
    """What a model answered: its text without special tokens, its length, and whether the limit cut it off."""

    text: str
    tokens: int
    truncated: bool


@dataclass(frozen=True)
class Sampling:
    """How completions are sampled: so many of each prompt, from the model's whole distribution at a temperature."""

    samples: int
    temperature: float
    seed: int


class Engine(Protocol):
    tokenizer: PreTrainedTokenizerBase
    context: int  # most tokens of a prompt with its completion

    def use(self, source: loading.Source) -> None:
        """Answer with another model of the same shape from now on."""

    def complete(
        self, prompts: list[Prompt], max_completion_length: int, progress: str, stop: str | None = None
    ) -> list[Completion]:
        """One greedy completion per prompt, of at most `max_completion_length` tokens; `progress` names the bar.

        A completion ends before the text `stop`, too.
        """

    def sample(
        self, prompts: list[Prompt], max_completion_length: int, progress: str, draw: Sampling
    ) -> list[list[Completion]]:
        """Completions of each prompt as `draw` says.

        On a CPU the same seed, prompts and batches give the same completions.
        """


def stop_tokens(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that end a completion: a turn's, and the document's, which base models may give in its place."""
    return sorted({tokenizer.eos_token_id, tokenizer.pad_token_id})


def tokenize_prompts(prompts: list[Prompt], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """The tokens of each prompt, all texts at once."""
    texts = [
        prompt
        if isinstance(prompt, str)
        else tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
        for prompt in prompts
    ]
    return tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []  # of none it makes an error


def read_completion(ids: list[int], tokenizer: PreTrainedTokenizerBase, stop: str | None = None) -> Completion:
    """The completion in a row of tokens, of which those after its end or after the text `stop` don't count.

    The token that ends it counts, and is no part of the text; so do those of `stop`.
    """
    ends = set(stop_tokens(tokenizer))
    end = next((place for place, token in enumerate(ids) if token in ends), None)
    kept = ids if end is None else ids[: end + 1]
    text = tokenizer.decode(kept, skip_special_tokens=True)
    if stop is None or stop not in text:
        return Completion(text, len(kept), end is None)
    tokens = bisect.bisect_left(
        range(len(kept)), True, key=lambda count: stop in tokenizer.decode(kept[:count], skip_special_tokens=True)
    )
    return Completion(text.partition(stop)[0], tokens, False)
