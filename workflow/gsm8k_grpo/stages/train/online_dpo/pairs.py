"""The pairs of online DPO: of a prompt's completions, those with the highest and the lowest total reward."""

from dataclasses import dataclass

from torch import Tensor

from gsm8k_grpo.gsm8k.rewards import EQUAL


@dataclass(frozen=True)
class Pairs:
    """One pair per prompt; a tied prompt, whose completions all have the same total reward, makes none.

    Attributes:
        best, worst: (prompts,) rows of the completions; equal for a tied prompt.
        tied: (prompts,) whether a prompt is tied.
    """

    best: Tensor
    worst: Tensor
    tied: Tensor


def pairs_of(totals: Tensor, group_size: int) -> Pairs:
    """The pairs of a generation.

    Of several completions with the highest total the first one is the best, and of several with the lowest the first
    one is the worst.

    Args:
        totals: (rows,) total reward of each completion; every `group_size` consecutive rows have the same prompt.
    """
    groups = totals.view(-1, group_size)
    highest, best = groups.max(1)
    lowest, worst = groups.min(1)
    first = groups.new_tensor(range(0, len(totals), group_size)).long()
    return Pairs(first + best, first + worst, highest - lowest <= EQUAL)
