"""Log-probabilities of given tokens from hidden states, without the logits of the whole batch in memory.

A vocabulary of 151,936 makes the float32 logits of 1,200 tokens 0.7 GiB, and a loss over them holds several such at
once.  Here the logits of a chunk live as long as the chunk, and are computed again in the backward pass.
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
    """(tokens,) log-probabilities of `targets`, and the entropies of the distributions they are of, which carry no
    gradient; in float32."""
    logits = nn.functional.linear(hidden, weight, bias).float() / temperature
    normaliser = logits.logsumexp(-1)
    logps = logits.gather(-1, targets[:, None]).squeeze(-1) - normaliser
    with torch.no_grad():
        entropies = normaliser - ((logits - normaliser[:, None]).exp() * logits).sum(-1)
    return logps, entropies


def logps_and_entropies(
    hidden: Tensor, head: nn.Linear, targets: Tensor, temperature: float, chunk: Chunk = chunk
) -> tuple[Tensor, Tensor]:
    """Log-probabilities and entropies of (tokens,) targets from (tokens, width) hidden states, see `chunk`."""
    found = [
        checkpoint(chunk, states, head.weight, head.bias, ids, temperature, use_reentrant=False)
        for states, ids in zip(hidden.split(CHUNK), targets.split(CHUNK), strict=True)
    ]
    logps, entropies = zip(*found, strict=True)
    return torch.cat(logps), torch.cat(entropies)
