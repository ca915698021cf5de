"""A batch of prompts and completions as one sequence: no padding, each prompt once for all its completions.

The tokens of a group stand together, prompt first.  A completion's tokens see the prompt and their own past, nothing
of the group's other completions, and have the positions that they would have alone: the same function of the weights
as of a padded batch, on about a third fewer tokens with 6 completions a prompt.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

ATTENTION = "packed"  # the attention of a model that gets packed batches on a card
PROMPT = -1
LOWEST = torch.finfo(torch.float16).min  # a score that is as good as none in every type
WIDTH_STEP = 128  # the kernel's grid is a multiple of this wide, so that few widths are compiled


@dataclass(frozen=True)
class Packed:
    """T tokens of a batch, of which N are of completions.

    Attributes:
        ids, positions: (1, T) tokens and their positions in their own sequence.
        group: (T,) which prompt a token belongs to.
        completion: (T,) which row of the batch, `PROMPT` for a prompt's token.
        sources: (N,) the token whose hidden state predicts each token of a completion.
        targets: (N,) these tokens.
        places: (N,) where they stand in the batch's completions, flattened.
        keys: (K,) the tokens that each sequence sees, sequence after sequence: each prompt, then each of its
            completions with the prompt before it.
        query_starts, key_starts: (sequences + 1,) where a sequence's tokens and its `keys` begin.
        width: no sequence has more keys.
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

    @cached_property
    def mask(self) -> Tensor:
        """(1, 1, T, T), True where a token sees another."""
        index = torch.arange(self.ids.shape[1], device=self.ids.device)
        own = (self.completion == PROMPT) | (self.completion == self.completion[:, None])
        return ((index <= index[:, None]) & (self.group == self.group[:, None]) & own)[None, None]

    def inputs(self, attention: str) -> dict[str, Any]:
        """What a decoder takes: for `ATTENTION` the sequences, for others a mask; `eager` adds it to the scores."""
        common = {"input_ids": self.ids, "position_ids": self.positions, "use_cache": False}
        if attention == "eager":
            hidden = torch.zeros(self.mask.shape, device=self.mask.device).masked_fill(~self.mask, LOWEST)
            return common | {"attention_mask": hidden}
        if attention != ATTENTION:
            return common | {"attention_mask": self.mask}
        sequences = {"query_starts": self.query_starts, "key_starts": self.key_starts}
        return common | sequences | {"keys": self.keys, "width": self.width}


def pack(ids: Tensor, mask: Tensor, completion_length: int, group_size: int) -> Packed:
    """Pack a batch.

    Args:
        ids, mask: (rows, prompt + completion) tokens and 1 where they count; prompts are padded on the left,
            completions on the right, and each `group_size` rows in turn have one prompt.
        completion_length: columns of the completions.
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

    # A group's sequences: the prompt as its first row has it, then every row.
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
    """(rows, completion_length) of what was computed for each completion token, zero where there is none."""
    empty = values.new_zeros(rows * completion_length)
    return empty.index_put((packed.places,), values).view(rows, completion_length)


def _starts(tokens: Tensor) -> Tensor:
    """Where each sequence begins, of (groups, sequences, columns) tokens that it has, and where the last one ends."""
    ends = tokens.sum(-1).flatten().cumsum(0, dtype=torch.int32)
    return nn.functional.pad(ends, (1, 0))


def attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """Attention for transformers' AttentionInterface: PyTorch's flash attention over a packed batch's sequences.

    Each sequence's keys end with its own tokens, to which flash attention aligns the causal mask.  A batch that is
    not packed gets the attention that models have by default.
    """
    if "keys" not in kwargs:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    # Rotary positions leave float32 where the weights are so and the computation is not.
    query, key, value = (states.squeeze(0).transpose(0, 1).to(value.dtype) for states in (query, key, value))
    attended = varlen_attn(
        query,
        key[kwargs["keys"]],
        value[kwargs["keys"]],
        kwargs["query_starts"],
        kwargs["key_starts"],
        kwargs["width"],
        kwargs["width"],
        scale=kwargs["scaling"],
        window_size=(-1, 0),
    )
    return attended[None], None


AttentionInterface.register(ATTENTION, attend)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)
