"""Attention over a static KV cache, registered by name in transformers' AttentionInterface.

The cache of a layer is two buffers of its attention module, (tokens, heads, width) each, which hold one row of
`row_length` tokens for each completion, one row after another.  As they never move, a CUDA graph can use them.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from gsm8k_grpo.models.attention import refuse_mask, refuse_unknown

ATTENTION = "static_cache"
KEYS, VALUES = "cached_keys", "cached_values"  # names of the buffers in a layer's attention
OWN = ("row_length", "capacity", "first_row", "prompt_of_row", "slots", "lengths", "longest", "flash")


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention of whole prompts, or of the next token of each completion.

    Args:
        module: the layer's attention, whose cache is written.
        query, key, value: (sequences, heads, tokens, width); prompts are padded on the right.
        attention_mask: the placeholder `models.attention.MARKER`.
        scaling: multiplies the scores.
        sliding_window: the number of tokens that a token attends to, including itself; None for all before it.
        dropout: must be 0.
        kwargs: without `row_length` the cache is not used, as for a batch of whole sequences.  For prompts:
            capacity: the number of tokens that the cache has room for.
            first_row: the row of the cache that the first of the new completions gets.
            prompt_of_row: (completions,) the index of the prompt that each new completion continues.
            For a step of decoding:
            slots: (completions,) index of each new token in the cache.
            lengths: (completions,) int32, the number of tokens of each row, including the new one.
            longest: upper bound of `lengths`.
            flash: whether PyTorch's flash attention computes the step, see `has_flash`.

    Raises:
        UnknownAttentionError: if the module asks for something that is not computed here.
    """
    refuse_unknown(module, kwargs, OWN, dropout)
    row_length = kwargs.get("row_length")
    if row_length is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, is_causal=kwargs.get("is_causal")
        )
    refuse_mask(module, attention_mask, kwargs.get("is_causal"))
    # Rotary embeddings return float32 if the weights are in float32.
    query, key = query.to(value.dtype), key.to(value.dtype)
    if "slots" in kwargs:
        slots, lengths = kwargs["slots"], kwargs["lengths"]
        keys, values = module.cached_keys, module.cached_values
        keys[slots] = key.squeeze(2)
        values[slots] = value.squeeze(2)
        if kwargs["flash"]:
            return _decode_by_flash(query, keys, values, scaling, sliding_window, row_length, lengths), None
        keys, values = (rows_of(cache, row_length)[: len(query), : kwargs["longest"]] for cache in (keys, values))
        return _decode(query, keys, values, scaling, sliding_window, lengths), None
    _keep_prompts(module, key, value, row_length, kwargs["capacity"], kwargs["first_row"], kwargs["prompt_of_row"])
    return _attend_prompts(query, key, value, scaling, sliding_window), None


def has_flash(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether PyTorch has flash attention for this GPU (Ampere or later) and type."""
    return device.type == "cuda" and dtype.itemsize == 2 and torch.cuda.get_device_capability(device) >= (8, 0)


def _keep_prompts(
    module: nn.Module, key: Tensor, value: Tensor, row_length: int, capacity: int, first: int, prompt_of_row: Tensor
) -> None:
    """Copy a prompt's keys and values into the row of each of its completions; what follows is overwritten later."""
    for name, states in ((KEYS, key), (VALUES, value)):
        _, heads, width, size = states.shape
        if not hasattr(module, name):
            module.register_buffer(name, states.new_zeros(capacity, heads, size), persistent=False)
        rows = rows_of(getattr(module, name), row_length)
        rows[first : first + len(prompt_of_row), :width] = states.transpose(1, 2)[prompt_of_row]


def rows_of(cache: Tensor, row_length: int) -> Tensor:
    """The (rows, row_length, heads, width) view of a buffer of the cache."""
    rows = len(cache) // row_length
    return cache[: rows * row_length].view(rows, row_length, *cache.shape[1:])


def _attend_prompts(query: Tensor, key: Tensor, value: Tensor, scaling: float | None, window: int | None) -> Tensor:
    """(prompts, tokens, heads, width) results; no token of a prompt attends to padding, which is on the right."""
    length, mask = query.shape[2], None
    if window is not None and window < length:
        index = torch.arange(length, device=query.device)
        distance = index[:, None] - index
        mask = (distance >= 0) & (distance < window)
    attended = scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=mask is None, scale=scaling, enable_gqa=True
    )
    return attended.transpose(1, 2)


def _decode(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    scaling: float | None,
    window: int | None,
    lengths: Tensor,
) -> Tensor:
    """(completions, 1, heads, width) results for the next token of each completion.

    Args:
        query: (completions, heads, 1, width).
        keys, values: (completions, tokens, heads, width).
    """
    completions, heads, _, size = query.shape
    keys, values = keys.transpose(1, 2), values.transpose(1, 2)
    index = torch.arange(keys.shape[2], device=query.device)
    seen = index < lengths[:, None]
    if window is not None:
        seen &= index >= lengths[:, None] - window
    # Query heads that share a key head are treated as tokens of one sequence, so that keys need not be repeated.
    grouped = query.view(completions, keys.shape[1], -1, size)
    attended = scaled_dot_product_attention(grouped, keys, values, attn_mask=seen[:, None, None], scale=scaling)
    return attended.reshape(completions, 1, heads, -1)


def _decode_by_flash(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    scaling: float | None,
    window: int | None,
    row_length: int,
    lengths: Tensor,
) -> Tensor:
    """The same by PyTorch's flash attention, which reads only the tokens that each row has.

    Args:
        keys, values: (tokens, heads, width) buffers of the cache.
    """
    completions, heads, _, size = query.shape
    shared = heads // keys.shape[1] if window is None else 1
    # Without a window, query heads that share a key head are treated as tokens of one sequence, so that the GPU reads
    # each key once for all of them.
    grouped = query.view(completions, -1, shared, size).transpose(1, 2).reshape(completions * shared, -1, size)
    index = torch.arange(completions + 1, dtype=torch.int32, device=query.device)
    attended = torch.ops.aten._flash_attention_forward(
        grouped,
        keys[: completions * row_length],
        values[: completions * row_length],
        index * shared,
        index * row_length,
        shared,
        row_length,
        0.0,
        False,
        False,
        scale=scaling,
        window_size_left=None if window is None else window - 1,
        window_size_right=None if window is None else 0,
        seqused_k=lengths,
    )[0]
    return attended.view(completions, shared, -1, size).transpose(1, 2).reshape(completions, 1, heads, size)


AttentionInterface.register(ATTENTION, attend)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)
