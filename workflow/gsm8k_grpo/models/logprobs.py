"""Log-probabilities of tokens from hidden states, without the logits of the whole batch in memory.

With a vocabulary of 151,936 the float32 logits of 1,200 tokens take 0.7 GiB, and a loss holds several such tensors at
once.  Here only the logits of one chunk of tokens are in memory; the backward pass recomputes them.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedConfig

CHUNK = 1024  # tokens

TOLERANCE = {torch.float32: 1e-4, torch.float16: 0.02, torch.bfloat16: 0.1}
"""The largest mean difference between two computations of a completion's log-probabilities that rounding explains, by
the type of computation.  It was measured on random models of 35 architectures, see `stages.train.grpo.agreement`."""

Chunk = Callable[[Tensor, nn.Module, Tensor, float, float | None, bool], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Logits:
    """What a model does with the output of its head.

    Attributes:
        scale: multiplies the output.
        cap: the logits are then cap * tanh(logits / cap); None for no soft cap.
    """

    scale: float = 1.0
    cap: float | None = None

    @classmethod
    def of(cls, config: PreTrainedConfig) -> "Logits":
        """What a configuration says: Granite divides the logits, Cohere multiplies them, and Gemma has a soft cap."""
        divisor = getattr(config, "logits_scaling", None) or 1.0
        factor = getattr(config, "logit_scale", None) or 1.0
        return cls(factor / divisor, getattr(config, "final_logit_softcapping", None))

    def of_output(self, output: Tensor) -> Tensor:
        """The logits in float32, from the output of the head."""
        logits = output.float() * self.scale
        return logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)


def chunk(
    hidden: Tensor,
    head: nn.Module,
    targets: Tensor,
    temperature: float,
    cap: float | None,
    entropy_gradient: bool = False,
) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the targets of one chunk, and the entropies of their distributions.

    Args:
        hidden: (tokens, width) hidden states.
        head: gives (tokens, vocabulary) logits.
        targets: (tokens,) token ids.
        temperature: divides the logits.
        cap: soft cap of the logits before the division, or None.
        entropy_gradient: whether the entropies carry a gradient.

    Returns:
        Two (tokens,) tensors in float32.
    """
    logits = head(hidden).float()
    if cap is not None:
        logits = cap * torch.tanh(logits / cap)
    logits = logits / temperature
    normaliser = logits.logsumexp(-1)
    logps = logits.gather(-1, targets[:, None]).squeeze(-1) - normaliser
    with nullcontext() if entropy_gradient else torch.no_grad():
        entropies = normaliser - ((logits - normaliser[:, None]).exp() * logits).sum(-1)
    return logps, entropies


def logps_and_entropies(
    hidden: Tensor,
    head: nn.Module,
    targets: Tensor,
    temperature: float,
    chunk: Chunk = chunk,
    transform: Logits = Logits(),
    entropy_gradient: bool = False,
) -> tuple[Tensor, Tensor]:
    """What `chunk` returns, for any number of tokens.

    Args:
        transform: what the model does with the output of its head.
    """
    # The scale comes before the soft cap: cap * tanh(scale * x / cap) is scale times x with a soft cap of cap / scale.
    temperature = temperature / transform.scale
    cap = None if transform.cap is None else transform.cap / transform.scale
    # Copies, since a compiled chunk would be compiled again for one of several views of a tensor.
    results = [
        checkpoint(chunk, states.clone(), head, ids.clone(), temperature, cap, entropy_gradient, use_reentrant=False)
        for states, ids in zip(hidden.split(CHUNK), targets.split(CHUNK), strict=True)
    ]
    logps, entropies = zip(*results, strict=True)
    return torch.cat(logps), torch.cat(entropies)
