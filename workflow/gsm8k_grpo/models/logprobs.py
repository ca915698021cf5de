"""Log-probabilities of tokens from hidden states, without the logits of the whole batch in memory.

With a vocabulary of 151,936 the float32 logits of 1,200 tokens take 0.7 GiB, and a loss holds several such tensors at
once.  Here only the logits of one chunk of tokens are in memory; the backward pass recomputes them.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

CHUNK = 1024  # tokens

Chunk = Callable[[Tensor, Tensor, Tensor | None, Tensor, float], tuple[Tensor, Tensor]]


def chunk(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the targets of one chunk, and the entropies of their distributions.

    Args:
        hidden: (tokens, width) hidden states.
        weight: (vocabulary, width) weight of the head.
        bias: (vocabulary,) bias of the head, or None.
        targets: (tokens,) token ids.
        temperature: divides the logits.

    Returns:
        Two (tokens,) tensors in float32; the entropies carry no gradient.
    """
    logits = nn.functional.linear(hidden, weight, bias).float() / temperature
    normaliser = logits.logsumexp(-1)
    logps = logits.gather(-1, targets[:, None]).squeeze(-1) - normaliser
    with torch.no_grad():
        entropies = normaliser - ((logits - normaliser[:, None]).exp() * logits).sum(-1)
    return logps, entropies


def logps_and_entropies(
    hidden: Tensor, head: nn.Linear, targets: Tensor, temperature: float, chunk: Chunk = chunk
) -> tuple[Tensor, Tensor]:
    """Log-probabilities and entropies as of `chunk`, over any number of tokens."""
    results = [
        checkpoint(chunk, states, head.weight, head.bias, ids, temperature, use_reentrant=False)
        for states, ids in zip(hidden.split(CHUNK), targets.split(CHUNK), strict=True)
    ]
    logps, entropies = zip(*results, strict=True)
    return torch.cat(logps), torch.cat(entropies)
