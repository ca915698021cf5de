"""Random packed batches, the gradients of a model on them, and the GPU's attention over sequences for a CPU."""

from dataclasses import fields

import torch
from gsm8k_grpo.stages.train.grpo.packing import Packed, pack
from torch import Tensor, nn

GROUP, PROMPT_LENGTH, LENGTH = 2, 40, 24


def packed_batch(
    groups: int, seed: int = 1, size: int = GROUP, prompt: int = PROMPT_LENGTH, length: int = LENGTH
) -> Packed:
    """Groups of `size` completions; prompts have more than half of `prompt` tokens, completions 1 to `length`."""
    drawn = torch.Generator().manual_seed(seed)
    rows = groups * size
    ids = torch.randint(1, 250, (rows, prompt + length), generator=drawn)
    missing = torch.randint(0, prompt // 2, (groups,), generator=drawn).tolist()
    lengths = torch.randint(1, length + 1, (rows,), generator=drawn).tolist()
    mask = torch.ones_like(ids)
    for row in range(rows):
        ids[row, :prompt] = ids[row // size * size, :prompt]
        mask[row, : missing[row // size]] = 0
        mask[row, prompt + lengths[row] :] = 0
    return pack(ids, mask, length, size)


def on_gpu(packed: Packed) -> Packed:
    values = {field.name: getattr(packed, field.name) for field in fields(packed)}
    return Packed(**{name: value.cuda() if torch.is_tensor(value) else value for name, value in values.items()})


def factors(packed: Packed, width: int) -> Tensor:
    """(completion tokens, width) factors of the states in a loss, so that each of them matters."""
    return torch.randn(len(packed.sources), width, generator=torch.Generator().manual_seed(2)).to(packed.ids.device)


def gradients_of(states: Tensor, packed: Packed, model: nn.Module) -> dict[str, Tensor]:
    """The gradients of a loss of the (completion tokens, width) states, by the names of the weights that have one."""
    model.zero_grad()
    (states * factors(packed, states.shape[1])).sum().backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


def norm(gradients: dict[str, Tensor]) -> float:
    return torch.cat([gradient.float().flatten() for gradient in gradients.values()]).norm().item()


def apart(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    """The norm of the difference of two gradients, relative to that of the second."""
    assert ours.keys() == theirs.keys()
    return norm({name: ours[name].float() - theirs[name].float() for name in theirs}) / norm(theirs)


def varlen(query, key, value, query_starts, key_starts, longest_query, longest_key, *, scale, window_size):
    """What `varlen_attn` computes on a GPU: causal attention per sequence, aligned with the last keys.

    The kernel does not write the results of tokens that are in no sequence, or too far from its beginning; here they
    are not a number, like those of tokens without a key.  Like the kernel, it does not wait for the values of starts.
    """
    (queries, place), (keys, place_of_key) = _places(query, query_starts), _places(key, key_starts)
    back = (query_starts.diff() - key_starts.diff())[keys] + place_of_key - place[:, None]
    seen = (queries[:, None] == keys) & (back <= 0) & (place_of_key < longest_key)
    if window_size[0] >= 0:
        seen &= back >= -window_size[0]
    per_group = query.shape[1] // key.shape[1]
    key, value = (states.repeat_interleave(per_group, 1).transpose(0, 1) for states in (key, value))
    scores = (query.transpose(0, 1) @ key.transpose(1, 2)) * scale
    attended = (scores.masked_fill(~seen, -torch.inf).softmax(-1) @ value).transpose(0, 1)
    written = (torch.arange(len(query)) < query_starts[-1]) & (place < longest_query)
    return attended.masked_fill(~written[:, None, None], torch.nan)


def _places(states: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
    """The sequence that each token or key is in, and its place there."""
    index = torch.arange(len(states))
    sequence = torch.searchsorted(starts[1:], index, right=True).clamp(max=len(starts) - 2)
    return sequence, index - starts[sequence]
