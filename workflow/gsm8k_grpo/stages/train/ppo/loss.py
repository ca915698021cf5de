"""The two parts of PPO's loss: for the policy and for the values.  All tensors have one shape, an element per token."""

import torch
from torch import Tensor


def policy_losses(logps: Tensor, old: Tensor, advantages: Tensor, cliprange: float) -> Tensor:
    """The clipped surrogate objective of each token, with the sign of a loss.

    loss_t = -min(ratio_t * advantage_t, clip(ratio_t, 1 - cliprange, 1 + cliprange) * advantage_t)

    Equation 7 of Schulman et al. (2017), arXiv 1707.06347, where ratio_t = policy(token_t) / old policy(token_t).

    Args:
        logps, old: log-probabilities under the policy, and under the policy before the update.
    """
    ratio = (logps - old).exp()
    return -torch.min(ratio * advantages, ratio.clamp(1 - cliprange, 1 + cliprange) * advantages)


def value_losses(values: Tensor, old: Tensor, returns: Tensor, cliprange: float) -> Tensor:
    """Half the squared error of each value, without a gradient once the value has moved `cliprange` towards its return.

    loss_t = 0.5 * max((value_t - return_t)**2, (clip(value_t, old_t - cliprange, old_t + cliprange) - return_t)**2)

    Equation 9 of Schulman et al. (2017) has the squared error; the clip is from the authors' implementation (OpenAI's
    baselines).  It is also used by Ziegler et al. (2019), arXiv 1909.08593, and by TRL's PPOTrainer.

    Args:
        old: the values before the update.
        returns: advantages plus values before the update.
    """
    clipped = torch.min(torch.max(values, old - cliprange), old + cliprange)
    return 0.5 * torch.max((values - returns) ** 2, (clipped - returns) ** 2)
