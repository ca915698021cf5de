"""Packed batches padded to a few sizes, so that a few CUDA graphs serve all of them.

A graph computes tensors of fixed shapes.  Those of a packed batch depend on its tokens, on the keys of its sequences
and on the number of sequences, which varies because groups without advantage are left out.  Each is rounded up to one
of a few sizes:

- tokens to steps of a quarter of a power of two, so that less than a quarter of the padded batch is padding, or less
  than 96 tokens are;
- keys to a power of two, since a key of the padding only has to be copied, whereas a token goes through every layer;
- the width to a power of two, since a larger one costs nothing: an attention kernel stops at the end of a sequence;
- sequences to the largest number that a batch can have; the missing ones are empty.

Smaller steps would need more graphs.  They would save arithmetic, but a GPU that waits for its host has time for it.

The padding consists of sequences of its own.  A token of the padding attends to padding alone, and at least to itself,
so that its state is finite: for tokens and keys that belong to no sequence, a kernel would write no results.  The
gradient of its state is zero, and so is everything that it adds to the gradients of weights.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad as padded_with

from gsm8k_grpo.stages.train.grpo.packing import PROMPT, Packed

PADDING = -1  # the group of the padding; prompts count from 0
PADDING_SEQUENCES = 32  # the padding is divided among so many sequences, so that none of them is wide
SMALLEST_STEP = 64
TOKEN_PARTS, KEY_PARTS = 4, 1  # a step is the power of two below a size, divided by this
SMALLEST_WIDTH = 512  # most questions of GSM8K with an answer have fewer tokens


@dataclass(frozen=True)
class Bucket:
    """The sizes to which batches are padded.

    Attributes:
        tokens, keys: their numbers in the padded batch.
        width: upper bound of the number of keys of a sequence.
        sequences: their number in the padded batch, with those of the padding and the empty ones.
    """

    tokens: int
    keys: int
    width: int
    sequences: int


def bucket_of(packed: Packed, sequences: int) -> Bucket:
    """The bucket of a batch.

    Args:
        sequences: the largest number of sequences that any batch has.
    """
    own = packed.ids.shape[1]
    tokens = rounded(own + PADDING_SEQUENCES, TOKEN_PARTS)
    keys = rounded(len(packed.keys) + tokens - own, KEY_PARTS)
    # The sequences of the padding share its keys, and none of them is wider than this.
    width = max(packed.width, keys // PADDING_SEQUENCES, SMALLEST_WIDTH)
    return Bucket(tokens, keys, 1 << (width - 1).bit_length(), sequences + PADDING_SEQUENCES)


def rounded(count: int, parts: int) -> int:
    """`count` rounded up to a multiple of a step: the power of two below it over `parts`, at least `SMALLEST_STEP`."""
    step = max(SMALLEST_STEP, (1 << count.bit_length() - 1) // parts)
    return -(-count // step) * step


def pad(packed: Packed, bucket: Bucket) -> Packed:
    """The batch followed by padding; `sources`, `targets` and `places` are as before.

    Every sequence of the padding has tokens, and at least as many keys.
    """
    own, own_keys = packed.ids.shape[1], len(packed.keys)
    tokens, keys = bucket.tokens - own, bucket.keys - own_keys
    index = torch.arange(PADDING_SEQUENCES + 1, device=packed.ids.device)
    query_ends = own + index * tokens // PADDING_SEQUENCES
    key_ends = query_ends + own_keys - own + index * (keys - tokens) // PADDING_SEQUENCES
    return replace(
        packed,
        ids=padded_with(packed.ids, (0, tokens)),
        positions=padded_with(packed.positions, (0, tokens)),
        group=padded_with(packed.group, (0, tokens), value=PADDING),
        completion=padded_with(packed.completion, (0, tokens), value=PROMPT),
        keys=torch.cat([packed.keys, _padding_keys(own, own_keys, keys, query_ends, key_ends)]),
        query_starts=_starts(packed.query_starts, query_ends, bucket.sequences),
        key_starts=_starts(packed.key_starts, key_ends, bucket.sequences),
        width=bucket.width,
    )


def _padding_keys(own: int, own_keys: int, keys: int, query_ends: Tensor, key_ends: Tensor) -> Tensor:
    """(keys,) indices of the tokens that the sequences of the padding attend to.

    The keys of a sequence end with its own tokens; those before them are any tokens of the padding.
    """
    behind = (query_ends - key_ends)[1:].repeat_interleave(key_ends.diff(), output_size=keys)
    return (torch.arange(own_keys, own_keys + keys, device=behind.device) + behind).clamp(min=own)


def _starts(of_batch: Tensor, of_padding: Tensor, sequences: int) -> Tensor:
    """(sequences + 1,) where each sequence begins; those after the padding are empty."""
    starts = torch.cat([of_batch, of_padding[1:].to(of_batch.dtype)])
    return torch.cat([starts, starts[-1:].expand(sequences + 1 - len(starts))])
