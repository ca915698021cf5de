"""The advantages of PPO: rewards per token, generalised advantage estimation, whitening.

Unless stated otherwise, tensors are (rows, length), with one completion per row, padded on the right; a mask has 1 for
tokens and 0 for padding.
"""

import math

import torch
from torch import Tensor

from gsm8k_grpo.stages.train import parallel


def token_rewards(totals: Tensor, logps: Tensor, reference: Tensor | None, mask: Tensor, kl_coef: float) -> Tensor:
    """The reward of each token: its part of the KL term, and at the last token also the total of the completion.

    reward_t = -kl_coef * (log policy(token_t) - log reference(token_t)) + (total, if t is the last token)

    Summed over a completion this is equation 2 of Ziegler et al. (2019), arXiv 1909.08593.

    Args:
        totals: (rows,) total reward of each completion.
        logps: log-probabilities of the tokens under the policy that sampled them.
        reference: those under the model that training starts from; None without a KL term.
    """
    rewards = torch.zeros_like(logps) if reference is None else -kl_coef * (logps - reference) * mask
    tokens = mask.sum(1, keepdim=True)  # 0 if the length limit cut the completion off and training leaves it out
    return rewards.scatter_add(1, (tokens - 1).clamp(min=0), totals[:, None].to(rewards.dtype) * (tokens > 0))


def generalised_advantages(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> Tensor:
    """Generalised advantage estimation over the tokens of each completion.

    delta_t = reward_t + gamma * value_{t+1} - value_t
    advantage_t = delta_t + gamma * lam * advantage_{t+1}

    Equations 11 and 12 of Schulman et al. (2017), arXiv 1707.06347, from Schulman et al. (2015), arXiv 1506.02438.
    The value after the last token is 0, even if the length limit has cut a completion off, since it is graded as it is.

    Args:
        rewards: what `token_rewards` returns.
        values: for each token, the estimate of the rewards from this token on, made from what comes before it.
    """
    advantages = torch.zeros_like(values)
    advantage = following = torch.zeros_like(values[:, 0])
    for step in reversed(range(values.shape[1])):
        present = mask[:, step].to(values.dtype)
        delta = rewards[:, step] + gamma * following - values[:, step]
        advantage = (delta + gamma * lam * advantage) * present
        following = values[:, step] * present
        advantages[:, step] = advantage
    return advantages


def whitened(advantages: Tensor, mask: Tensor) -> Tensor:
    """The advantages with mean 0 and standard deviation 1 over the tokens of all ranks, as in Ziegler et al. (2019)."""
    mean, deviation = mean_and_deviation(advantages[mask.bool()])
    return (advantages - mean) / (deviation + 1e-8) * mask


def mean_and_deviation(values: Tensor) -> tuple[float, float]:
    """The mean and the standard deviation of the values of all ranks."""
    values = values.double()
    count = max(parallel.total(len(values)), 1)  # 0 if training leaves out all completions, as cut off
    mean = parallel.total(values.sum().item()) / count
    return mean, math.sqrt(parallel.total((values - mean).square().sum().item()) / count)
