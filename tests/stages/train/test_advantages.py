"""The rewards, advantages and losses of PPO against values computed by hand."""

import pytest
import torch
from gsm8k_grpo.stages.train.ppo.advantages import generalised_advantages, token_rewards, whitened
from gsm8k_grpo.stages.train.ppo.loss import policy_losses, value_losses
from gsm8k_grpo.stages.train.ppo.value_head import ValueHead

# Two completions, of three tokens and of one.
MASK = torch.tensor([[1, 1, 1], [1, 0, 0]])
VALUES = torch.tensor([[1.0, 2.0, 3.0], [0.5, 7.0, 7.0]])


def test_the_total_is_the_reward_of_the_last_token():
    rewards = token_rewards(torch.tensor([4.0, 2.5]), torch.zeros(2, 3), None, MASK, kl_coef=0.0)
    assert rewards.tolist() == [[0.0, 0.0, 4.0], [2.5, 0.0, 0.0]]


def test_every_token_pays_its_part_of_the_kl_term():
    logps = torch.tensor([[-1.0, -2.0, -3.0], [-1.0, 0.0, 0.0]])
    reference = torch.tensor([[-2.0, -2.0, -1.0], [-1.5, -9.0, -9.0]])
    rewards = token_rewards(torch.tensor([4.0, 2.5]), logps, reference, MASK, kl_coef=0.1)
    expected = torch.tensor([[-0.1, 0.0, 4.0 + 0.2], [2.5 - 0.05, 0.0, 0.0]])
    torch.testing.assert_close(rewards, expected)


def test_advantages_by_hand():
    """gamma 0.9 and lambda 0.5: each advantage is its delta plus 0.45 of the next advantage."""
    rewards = torch.tensor([[0.0, 0.0, 4.0], [2.5, 0.0, 0.0]])
    last = 4.0 - 3.0
    middle = (0.9 * 3.0 - 2.0) + 0.45 * last
    first = (0.9 * 2.0 - 1.0) + 0.45 * middle
    expected = torch.tensor([[first, middle, last], [2.5 - 0.5, 0.0, 0.0]])
    torch.testing.assert_close(generalised_advantages(rewards, VALUES, MASK, gamma=0.9, lam=0.5), expected)


def test_with_lambda_and_gamma_1_an_advantage_is_the_rewards_to_come_less_the_value():
    rewards = torch.tensor([[0.1, -0.2, 4.0], [2.5, 0.0, 0.0]])
    expected = torch.tensor([[3.9 - 1.0, 3.8 - 2.0, 4.0 - 3.0], [2.5 - 0.5, 0.0, 0.0]])
    torch.testing.assert_close(generalised_advantages(rewards, VALUES, MASK, gamma=1.0, lam=1.0), expected)


def test_with_lambda_0_an_advantage_is_its_delta():
    rewards = torch.tensor([[0.0, 0.0, 4.0], [2.5, 0.0, 0.0]])
    expected = torch.tensor([[2.0 - 1.0, 3.0 - 2.0, 4.0 - 3.0], [2.5 - 0.5, 0.0, 0.0]])
    torch.testing.assert_close(generalised_advantages(rewards, VALUES, MASK, gamma=1.0, lam=0.0), expected)


def test_whitening_is_over_tokens_and_not_over_padding():
    advantages = whitened(torch.tensor([[1.0, 2.0, 3.0], [6.0, 0.0, 0.0]]), MASK)
    deviation = 3.5**0.5  # of 1, 2, 3 and 6, whose mean is 3
    expected = torch.tensor([[-2.0, -1.0, 0.0], [3.0, 0.0, 0.0]]) / deviation
    torch.testing.assert_close(advantages, expected)


def test_whitening_leaves_completions_out_that_have_no_tokens():
    nothing = torch.zeros(2, 3)
    assert whitened(torch.ones(2, 3), nothing).equal(nothing)


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected"),
    [(1.1, 2.0, -2.2), (1.5, 2.0, -2.4), (0.5, 2.0, -1.0), (0.5, -2.0, 1.6), (1.5, -2.0, 3.0)],
    ids=["inside", "above and good", "below and good", "below and bad", "above and bad"],
)
def test_the_clipped_objective(ratio, advantage, expected):
    logps = torch.tensor([ratio]).log().requires_grad_()
    loss = policy_losses(logps, torch.zeros(1), torch.tensor([advantage]), cliprange=0.2)
    assert loss.item() == pytest.approx(expected)
    loss.sum().backward()
    clipped = (ratio, advantage) in [(1.5, 2.0), (0.5, -2.0)]
    assert logps.grad.item() == pytest.approx(0.0 if clipped else -ratio * advantage)


@pytest.mark.parametrize(
    ("value", "expected", "slope"),
    [(1.1, 0.5 * 0.9**2, -0.9), (1.5, 0.5 * 0.8**2, 0.0), (0.5, 0.5 * 1.5**2, -1.5)],
    ids=["inside", "beyond, towards the return", "beyond, away from it"],
)
def test_the_clipped_loss_of_values(value, expected, slope):
    """The value before the update is 1, the return 2."""
    values = torch.tensor([value], requires_grad=True)
    loss = value_losses(values, torch.tensor([1.0]), torch.tensor([2.0]), cliprange=0.2)
    assert loss.item() == pytest.approx(expected)
    loss.sum().backward()
    assert values.grad.item() == pytest.approx(slope)


def test_the_value_head_begins_with_zeros_and_computes_in_32_bit():
    head = ValueHead(4)
    assert head(torch.ones(2, 3, 4)).tolist() == [[0.0] * 3] * 2
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert head(torch.ones(2, 3, 4, dtype=torch.bfloat16)).dtype == torch.float32
