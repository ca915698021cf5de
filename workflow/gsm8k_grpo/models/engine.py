"""The interface of an engine, which completes many prompts, and how generated tokens become a completion."""

import bisect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

from transformers import PreTrainedTokenizerBase

from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.models import loading
from gsm8k_grpo.records import Message

SHOWN_TEXT = 80  # characters of a text that is refused

Prompt = list[Message] | str
"""Messages, which go through the chat template, or a text, which the model gets unchanged."""


@dataclass(frozen=True)
class Completion:
    """A model's completion: its text without special tokens, its length in tokens, and whether the limit cut it off."""

    text: str
    tokens: int
    truncated: bool


@dataclass(frozen=True)
class Sampling:
    """How to sample: the number of completions per prompt, the temperature, and the seed.

    Tokens are drawn from the model's whole distribution, without top-k or top-p.
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
    """The tokens that end a completion, see `loading.load_tokenizer`."""
    return cast(Any, tokenizer).stop_tokens


def up_to_stop(ids: list[int], stop_tokens: list[int]) -> list[int]:
    """The token ids up to and including the first stop token; all of them if there is none."""
    end = next((index for index, token in enumerate(ids) if token in stop_tokens), len(ids))
    return ids[: end + 1]


def tokenize_prompts(
    prompts: list[Prompt], tokenizer: PreTrainedTokenizerBase, chat_template_kwargs: Mapping[str, Any]
) -> list[list[int]]:
    """The token ids of each prompt.

    A text gets the tokens that the tokenizer adds by itself, such as one for the beginning.  Messages get only the
    special tokens that are in the chat template.

    Raises:
        PipelineError: if a message holds a control token.
    """
    chats = [prompt for prompt in prompts if not isinstance(prompt, str)]
    require_plain([message["content"] for chat in chats for message in chat], tokenizer)
    return [_tokenize(prompt, tokenizer, chat_template_kwargs) for prompt in prompts]


def require_plain(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> None:
    """Require that no text holds a control token of this model, whatever its form.

    `gsm8k.prompts.require_plain` says why.  That function refuses tokens of the usual form before any work, naming file
    and line.

    Raises:
        PipelineError: naming the token and the beginning of the text.
    """
    together = "\0".join(texts)
    for token in filter(together.__contains__, _control_tokens(tokenizer)):
        text = next(text for text in texts if token in text)
        raise PipelineError(
            f"{token} is a control token of the model, and a prompt or a solution holds it: {text[:SHOWN_TEXT]!r}; "
            "take it out of the data"
        )


def _control_tokens(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The special tokens that text can't produce unless they are treated as special.

    Others are ordinary text that also has a special role, such as a word that serves as padding.
    """
    special = {str(token): index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    return [
        token
        for token, index in special.items()
        if tokenizer(token, add_special_tokens=False, split_special_tokens=True)["input_ids"] != [index]
    ]


def _tokenize(prompt: Prompt, tokenizer: PreTrainedTokenizerBase, chat_template_kwargs: Mapping[str, Any]) -> list[int]:
    if isinstance(prompt, str):
        return tokenizer(prompt)["input_ids"]
    messages = cast(list[dict[str, str]], prompt)
    # Unsloth changes the default of `return_dict`.
    tokens: Any = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_dict=True, **chat_template_kwargs
    )
    return tokens["input_ids"]


def read_completion(ids: list[int], tokenizer: PreTrainedTokenizerBase, stop: str | None = None) -> Completion:
    """The completion in generated token ids, up to the first stop token or the text `stop`.

    What ends the completion is not part of its text, but the tokens of the end count towards the length.
    """
    ends = stop_tokens(tokenizer)
    kept = up_to_stop(ids, ends)
    ended = kept[-1:] != [] and kept[-1] in ends
    text = _decode(kept[:-1] if ended else kept, tokenizer)
    if stop is None or stop not in text:
        return Completion(text, len(kept), not ended)
    tokens = bisect.bisect_left(range(len(kept)), True, key=lambda count: stop in _decode(kept[:count], tokenizer))
    return Completion(text.partition(stop)[0], tokens, False)


def _decode(ids: list[int], tokenizer: PreTrainedTokenizerBase) -> str:
    return cast(str, tokenizer.decode(ids, skip_special_tokens=True))
