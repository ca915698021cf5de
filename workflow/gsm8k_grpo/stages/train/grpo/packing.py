"""A batch of prompts and completions as one sequence: no padding, each prompt once for all its completions.

The tokens of a group are adjacent, the prompt first.  A completion's tokens attend to the prompt and to their own past,
not to the other completions of the group, and have the positions that they would have alone.  The result is the same
function of the weights as for a padded batch, computed on about a third fewer tokens with 6 completions per prompt.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedConfig
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from gsm8k_grpo.models.attention import MARKER, masks_for_layers, refuse_mask, refuse_unknown

ATTENTION = "packed"  # name of the attention implementation for packed batches on a GPU
PROMPT = -1  # `Packed.completion` of a prompt's token
OWN = ("keys", "query_starts", "key_starts", "width")  # arguments that a packed batch passes to `attend`
LOWEST = torch.finfo(torch.float16).min  # a score that acts as minus infinity in every type
WIDTH_STEP = 128  # widths are rounded up to a multiple of this, so that the kernel is compiled for few of them


@dataclass(frozen=True)
class Packed:
    """A packed batch of T tokens, of which N belong to completions.

    Attributes:
        ids, positions: (1, T) tokens and their positions in their own sequence.
        group: (T,) index of the prompt that a token belongs to.
        completion: (T,) row of the batch that a token belongs to, `PROMPT` for a token of a prompt.
        sources: (N,) index of the token whose hidden state predicts each token of a completion.
        targets: (N,) the tokens of the completions, which these states predict.
        places: (N,) their positions in the flattened completions of the batch.
        keys: (K,) indices of the tokens that each sequence attends to, one sequence after another: each prompt, then
            each of its completions with the prompt before it.
        query_starts, key_starts: (sequences + 1,) where a sequence's tokens and its `keys` begin.
        width: upper bound of the number of keys of a sequence.
    """

    ids: Tensor
    positions: Tensor
    group: Tensor
    completion: Tensor
    sources: Tensor
    targets: Tensor
    places: Tensor
    keys: Tensor
    query_starts: Tensor
    key_starts: Tensor
    width: int

    def inputs(self, config: PreTrainedConfig) -> dict[str, Any]:
        """The arguments to give a decoder with this configuration."""
        common = {"input_ids": self.ids, "position_ids": self.positions, "use_cache": False}
        if config._attn_implementation != ATTENTION:
            return common | {"attention_mask": masks_for_layers(config, partial(self.mask, config))}
        sequences = {"query_starts": self.query_starts, "key_starts": self.key_starts}
        marker = self.ids.new_ones(MARKER, dtype=torch.bool)
        masks = {"attention_mask": masks_for_layers(config, lambda window: marker)}
        return common | sequences | {"keys": self.keys, "width": self.width} | masks

    def mask(self, config: PreTrainedConfig, window: int | None) -> Tensor:
        """(1, 1, T, T) mask of what each token attends to: at most the last `window` tokens of its sequence.

        The implementation `eager` adds its mask to the scores, so it gets numbers instead of booleans.
        """
        index = torch.arange(self.ids.shape[1], device=self.ids.device)
        own = (self.completion == PROMPT) | (self.completion == self.completion[:, None])
        seen = (index <= index[:, None]) & (self.group == self.group[:, None]) & own
        if window is not None:
            seen &= self.positions.T - self.positions < window
        if config._attn_implementation != "eager":
            return seen[None, None]
        return torch.zeros(seen.shape, device=seen.device).masked_fill(~seen, LOWEST)[None, None]


def pack(ids: Tensor, mask: Tensor, completion_length: int, group_size: int) -> Packed:
    """Pack a batch.

    Args:
        ids, mask: (rows, prompt + completion) tokens, and 1 for those that are not padding.  Prompts are padded on the
            left, completions on the right, and every `group_size` consecutive rows have the same prompt.
        completion_length: number of columns of the completions.
    """
    rows, length = ids.shape
    prompt_length = length - completion_length
    row = torch.arange(rows, device=ids.device)[:, None]
    column = torch.arange(length, device=ids.device)[None, :]
    of_prompt = column < prompt_length
    holder = torch.where(of_prompt, row // group_size * group_size, row)  # the row that a token is taken from
    kept = mask.bool() & (holder == row)
    index = kept.flatten().nonzero().squeeze(1)
    packed_at = (kept.flatten().cumsum(0) - 1)[holder * length + column]
    predicted = (mask.bool() & ~of_prompt).flatten().nonzero().squeeze(1)

    # The sequences of a group: the prompt, taken from its first row, then every row.
    in_groups = (-1, group_size, length)
    keys, seen = packed_at.view(in_groups), mask.bool().view(in_groups)
    keys, seen = torch.cat([keys[:, :1], keys], 1), torch.cat([seen[:, :1] & of_prompt, seen], 1)
    own = seen & torch.cat([of_prompt[None], ~of_prompt.expand(1, group_size, length)], 1)
    return Packed(
        ids=ids.flatten()[index][None],
        positions=(mask.long().cumsum(1) - 1).flatten()[index][None],
        group=index // length // group_size,
        completion=torch.where(index % length < prompt_length, PROMPT, index // length),
        sources=packed_at.flatten()[predicted - 1],
        targets=ids.flatten()[predicted],
        places=predicted // length * completion_length + predicted % length - prompt_length,
        keys=keys[seen],
        query_starts=_starts(own),
        key_starts=_starts(seen),
        width=-(-length // WIDTH_STEP) * WIDTH_STEP,
    )


def unpack(values: Tensor, packed: Packed, rows: int, completion_length: int) -> Tensor:
    """The (N,) values of the completion tokens as (rows, completion_length), with zeros for padding."""
    empty = values.new_zeros(rows * completion_length)
    return empty.index_put((packed.places,), values).view(rows, completion_length)


def _starts(tokens: Tensor) -> Tensor:
    """Where each sequence begins and the last one ends, from a (groups, sequences, columns) mask of their tokens."""
    ends = tokens.sum(-1).flatten().cumsum(0, dtype=torch.int32)
    return nn.functional.pad(ends, (1, 0))


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention for transformers' AttentionInterface: PyTorch's flash attention over a packed batch's sequences.

    Flash attention aligns the causal mask with the last keys, which is right because each sequence's keys end with its
    own tokens.  A batch that is not packed gets PyTorch's scaled dot product attention, which models use by default.

    Raises:
        UnknownAttentionError: if the module asks for something that neither of the two computes.
    """
    refuse_unknown(module, kwargs, OWN, dropout=dropout if "keys" in kwargs else 0.0)
    if "keys" not in kwargs:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, is_causal=kwargs.get("is_causal")
        )
    refuse_mask(module, attention_mask, kwargs.get("is_causal"))
    # Rotary embeddings return float32 if the weights are in float32, even under autocast to 16 bit.
    query, key, value = (states.squeeze(0).transpose(0, 1).to(value.dtype) for states in (query, key, value))
    attended = varlen_attn(
        query,
        key[kwargs["keys"]],
        value[kwargs["keys"]],
        kwargs["query_starts"],
        kwargs["key_starts"],
        kwargs["width"],
        kwargs["width"],
        scale=scaling,
        # The number of keys before a token: all of them, or one less than the window, which includes the token itself.
        window_size=(-1, 0) if sliding_window is None else (sliding_window - 1, 0),
    )
    return attended[None], None  # type: ignore[call-overload]  # a tensor, unless return_aux is given


AttentionInterface.register(ATTENTION, attend)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)
