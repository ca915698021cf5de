"""What this project's kinds of attention have in common: what a model may ask of them, and which masks it expects."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedConfig

FULL, SLIDING = "full_attention", "sliding_attention"  # transformers' names of layer types
MARKER = (1, 1, 1, 1)  # shape of a placeholder mask, for an attention that needs no real one
# Arguments of an attention that do not change what it computes.
HARMLESS = {
    "is_causal", "position_ids", "cache_position", "position_embeddings", "use_cache", "past_key_values",
    "output_router_logits", "logits_to_keep",
}  # fmt: skip


class UnknownAttentionError(ValueError):
    """A model's attention differs from what this project's kinds of attention compute."""


def refuse_unknown(module: nn.Module, given: Mapping[str, Any], own: Iterable[str], dropout: float) -> None:
    """Refuse a model's attention that asks for something which this project's would ignore.

    Args:
        module: the model's attention.
        given: the arguments that it gives besides those of every attention.
        own: the names of such arguments that this project's attention takes.
        dropout: the share of the attention weights that the module drops.

    Raises:
        UnknownAttentionError: naming the module and what it asks for.
    """
    known = {*HARMLESS, *own}
    unknown = [name for name, value in given.items() if name not in known and value is not None and value is not False]
    if unknown:
        raise UnknownAttentionError(
            f"{type(module).__name__} gives the attention {', '.join(unknown)}, which our attention would ignore"
        )
    if dropout:
        raise UnknownAttentionError(
            f"{type(module).__name__} drops attention weights (dropout {dropout}), which our attention does not"
        )


def refuse_mask(module: nn.Module, mask: Tensor | None, is_causal: bool | None) -> None:
    """Refuse an attention whose mask is not the placeholder.

    Raises:
        UnknownAttentionError: naming the module.
    """
    if mask is None or mask.shape != MARKER or is_causal is False:
        raise UnknownAttentionError(f"{type(module).__name__} has a mask of its own, which our attention would ignore")


def masks_for_layers(config: PreTrainedConfig, mask: Callable[[int | None], Tensor]) -> Tensor | dict[str, Tensor]:
    """The mask that all layers of a decoder share, or one for each kind of attention that its layers have.

    Args:
        config: the decoder's configuration.
        mask: returns the mask for a sliding window of so many tokens, or without a window for None.
    """
    window = getattr(config, "sliding_window", None)
    if window is not None and SLIDING in (getattr(config, "layer_types", None) or []):
        return {FULL: mask(None), SLIDING: mask(window)}
    return mask(window)
