"""Prompts are dealt to the ranks so that each computes about as many tokens of an update as the others.

All ranks wait for the slowest at the end of a step.  Each generates the completions of the same number of prompts, but
the completions of one rank may be longer, and groups of equal rewards are not computed at all.  So the ranks exchange
whole groups before the update, within each batch: together they compute the same groups of a batch as before, and each
rank has as many of them as any other.
"""

from collections.abc import Sequence
from typing import Any

import torch
from accelerate.utils import gather, pad_across_processes
from torch import Tensor

from gsm8k_grpo.runtime import ranks

ON_THE_LEFT = ("prompt_ids", "prompt_mask")  # tensors whose padding is on the left


def balanced(generated: dict[str, Any], computed: Tensor, batches: int, groups: int) -> dict[str, Any]:
    """The tensors of a generation, with the groups that this rank computes in place of those that it generated.

    Args:
        generated: tensors with one row per completion (or pair), batch by batch, and others, which are left as they
            are.
        computed: (rows,) whether a row is computed in the update.
        batches: the number of batches in the generation, each of which has the same number of groups.
        groups: the number of groups in the generation; a group is consecutive rows, and its prompt is computed once.
    """
    if ranks.count() == 1:
        return generated
    rows = len(computed)
    size = rows // groups
    completions, prompts = (generated[f"{kind}_mask"].flatten(1).sum(1) for kind in ("completion", "prompt"))
    tokens = (completions + prompts / size) * computed
    costs = gather(tokens.view(batches, -1, size).sum(2)).view(ranks.count(), batches, -1)
    of_all = torch.arange(ranks.count() * rows).view(ranks.count(), batches, -1, size)  # as `gather` orders them
    own = []
    for batch in range(batches):
        dealt = deal(costs[:, batch].flatten().tolist(), ranks.count())[ranks.rank()]
        own.append(of_all[:, batch].flatten(0, 1)[dealt].flatten())
    order = torch.cat(own).to(computed.device)
    return {
        name: _of_all_ranks(name, value)[order] if _has_rows(value, rows) else value
        for name, value in generated.items()
    }


def deal(costs: Sequence[float], hands: int) -> list[list[int]]:
    """Divide groups into hands of equal number and of about equal cost: each, from the most to the least costly, goes
    to the cheapest hand that is not full (Graham's rule of the longest processing time).

    Returns:
        The indices of each hand's groups, ascending.
    """
    size = len(costs) // hands
    dealt: list[list[int]] = [[] for _ in range(hands)]
    totals = [0.0] * hands
    for index in sorted(range(len(costs)), key=lambda index: -costs[index]):
        hand = min((hand for hand in range(hands) if len(dealt[hand]) < size), key=lambda hand: totals[hand])
        dealt[hand].append(index)
        totals[hand] += costs[index]
    return [sorted(hand) for hand in dealt]


def _has_rows(value: Any, rows: int) -> bool:
    return isinstance(value, Tensor) and value.dim() > 0 and len(value) == rows


def _of_all_ranks(name: str, tensor: Tensor) -> Tensor:
    """The rows of all ranks, padded to the columns of the longest."""
    if tensor.dim() > 1:
        tensor = pad_across_processes(tensor, dim=tensor.dim() - 1, pad_first=name in ON_THE_LEFT)
    gathered: Tensor = gather(tensor.contiguous())
    return gathered
