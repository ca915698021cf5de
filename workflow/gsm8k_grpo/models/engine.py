"""The interface of an engine, which completes many prompts, and how its tokens become a completion."""

import bisect
from dataclasses import dataclass
from typing import Protocol, cast

from transformers import PreTrainedTokenizerBase

from gsm8k_grpo.models import loading
from gsm8k_grpo.records import Message

Prompt = list[Message] | str
"""Messages, which go through the chat template, or a text, which the model gets unchanged."""


@dataclass(frozen=True)
class Completion:
    """A model's completion: its text without special tokens, its length, and whether the token limit cut it off."""

    text: str
    tokens: int
    truncated: bool


@dataclass(frozen=True)
class Sampling:
    """How to sample: the number of completions per prompt, the temperature, and the seed.

    They are drawn from the model's whole distribution, without top-k or top-p.
    """

    samples: int
    temperature: float
    seed: int


class Engine(Protocol):
    """Completes many prompts with a model; the completions are in the order of the prompts.

    Attributes:
        tokenizer: the model's tokenizer.
        context: the maximum tokens of a prompt together with its completion.
    """

    tokenizer: PreTrainedTokenizerBase
    context: int

    def use(self, source: loading.Source) -> None:
        """Replace the model by another one of the same shape."""

    def complete(
        self, prompts: list[Prompt], max_completion_length: int, progress: str, stop: str | None = None
    ) -> list[Completion]:
        """One greedy completion per prompt.

        Args:
            prompts: the prompts.
            max_completion_length: the maximum tokens of a completion.
            progress: the label of the progress bar.
            stop: a text that ends a completion, and is not part of it.
        """

    def sample(
        self, prompts: list[Prompt], max_completion_length: int, progress: str, sampling: Sampling
    ) -> list[list[Completion]]:
        """`sampling.samples` completions per prompt.

        On a CPU the same seed, prompts and batch size give the same completions.
        """


def stop_tokens(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that end a completion: the end of a turn, and the end of a document, which base models may use."""
    return sorted({tokenizer.eos_token_id, tokenizer.pad_token_id})


def tokenize_prompts(prompts: list[Prompt], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """The token ids of each prompt."""
    if not prompts:
        return []  # the tokenizer fails on an empty list
    return tokenizer([_as_text(prompt, tokenizer) for prompt in prompts], add_special_tokens=False)["input_ids"]


def _as_text(prompt: Prompt, tokenizer: PreTrainedTokenizerBase) -> str:
    if isinstance(prompt, str):
        return prompt
    messages = cast(list[dict[str, str]], prompt)
    return cast(str, tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def read_completion(ids: list[int], tokenizer: PreTrainedTokenizerBase, stop: str | None = None) -> Completion:
    """The completion in generated token ids, up to the first stop token or the text `stop`.

    What ends the completion is not part of its text, but its tokens count towards the length.
    """
    ends = set(stop_tokens(tokenizer))
    end = next((index for index, token in enumerate(ids) if token in ends), None)
    kept = ids if end is None else ids[: end + 1]
    text = _decode(kept, tokenizer)
    if stop is None or stop not in text:
        return Completion(text, len(kept), end is None)
    tokens = bisect.bisect_left(range(len(kept)), True, key=lambda count: stop in _decode(kept[:count], tokenizer))
    return Completion(text.partition(stop)[0], tokens, False)


def _decode(ids: list[int], tokenizer: PreTrainedTokenizerBase) -> str:
    return cast(str, tokenizer.decode(ids, skip_special_tokens=True))
