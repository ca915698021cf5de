"""What our own kinds of attention have in common: what a model may ask of them, and the masks that it expects."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedConfig

FULL, SLIDING = "full_attention", "sliding_attention"  # transformers' names of layer types
MARKER = (1, 1, 1, 1)  # shape of a placeholder mask, for an attention that needs no real one
# Arguments of an attention that do not change it.
HARMLESS = {
    "is_causal", "position_ids", "cache_position", "position_embeddings", "use_cache", "past_key_values",
    "output_router_logits", "logits_to_keep",
}  # fmt: skip


class UnknownAttentionError(ValueError):
    """A model's attention differs from ours."""


def refuse_unknown(module: nn.Module, given: Mapping[str, Any], own: Iterable[str], dropout: float) -> None:
    """Refuse an attention that asks for something that ours would ignore.

    Args:
        module: the model's attention.
        given: the arguments that it gives beside those of every attention.
        own: the names of those arguments that ours takes.
        dropout: the share of the attention weights that the module drops.

    Raises:
        UnknownAttentionError: naming the module and what it asks for.
    """
    known = {*HARMLESS, *own}
    unknown = [name for name, value in given.items() if name not in known and value is not None and value is not False]
    if unknown:
        raise UnknownAttentionError(
            f"{type(module).__name__} gives the attention {', '.join(unknown)}, which it would ignore"
        )
    if dropout:
        raise UnknownAttentionError(
            f"{type(module).__name__} drops attention weights (dropout {dropout}), which it would not"
        )


def refuse_mask(module: nn.Module, mask: Tensor | None, is_causal: bool | None) -> None:
    """Refuse an attention whose mask is not the placeholder.

    Raises:
        UnknownAttentionError: naming the module.
    """
    if mask is None or mask.shape != MARKER or is_causal is False:
        raise UnknownAttentionError(f"{type(module).__name__} has a mask of its own, which it would ignore")


def masks_for_layers(config: PreTrainedConfig, mask: Callable[[int | None], Tensor]) -> Tensor | dict[str, Tensor]:
    """The mask that all layers of a decoder share, or one for each kind of attention that its layers have.

    Args:
        config: the decoder's configuration.
        mask: gives the mask for a sliding window of so many tokens, or for none.
    """
    window = getattr(config, "sliding_window", None)
    if window is not None and SLIDING in (getattr(config, "layer_types", None) or []):
        return {FULL: mask(None), SLIDING: mask(window)}
    return mask(window)
