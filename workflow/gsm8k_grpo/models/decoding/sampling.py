"""Choose a token from logits, with its log-probability, by transformers' logits processors."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)


@dataclass(frozen=True)
class Sampler:
    """How the next token is chosen.

    Attributes:
        temperature: divides the logits; 0 takes the most probable token.
        top_k: the number of most probable tokens to choose from; 0 for all.
        top_p: choose from the smallest set of most probable tokens that have this probability together; 1 for all.
        min_p: leave out tokens with less than this share of the highest probability; 0 leaves out none.
    """

    temperature: float
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0

    def choose(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """The (rows,) tokens, and their (rows,) log-probabilities in the distribution that they are drawn from.

        Args:
            logits: (rows, vocabulary) in float32.
        """
        if self.temperature == 0:
            tokens = logits.argmax(-1)
        else:
            logits = self._processors()(None, logits)  # type: ignore[arg-type]  # these ignore the tokens so far
            # The largest of p / e with e from an exponential distribution is a draw from p, without synchronisation.
            tokens = (logits.softmax(-1) / torch.empty_like(logits).exponential_()).argmax(-1)
        logps = logits.gather(-1, tokens[:, None]).squeeze(-1) - logits.logsumexp(-1)
        return tokens, logps

    def _processors(self) -> LogitsProcessorList:
        wanted: list[Any] = []
        if self.temperature != 1:
            wanted.append(TemperatureLogitsWarper(self.temperature))
        if self.top_k > 0:
            wanted.append(TopKLogitsWarper(self.top_k))
        if self.top_p < 1:
            wanted.append(TopPLogitsWarper(self.top_p))
        if self.min_p > 0:
            wanted.append(MinPLogitsWarper(self.min_p))
        return LogitsProcessorList(wanted)
