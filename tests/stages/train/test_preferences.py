"""The pairs and losses of online DPO against values computed by hand."""

import math

import pytest
import torch
from gsm8k_grpo.stages.train.online_dpo.loss import margins, pair_losses
from gsm8k_grpo.stages.train.online_dpo.pairs import pairs_of


def test_the_best_and_the_worst_of_a_prompt_make_its_pair():
    pairs = pairs_of(torch.tensor([1.0, 4.0, 0.5, 2.0, 2.0, 3.5]), group_size=3)
    assert pairs.best.tolist() == [1, 5]
    assert pairs.worst.tolist() == [2, 3]
    assert pairs.tied.tolist() == [False, False]


def test_of_equal_totals_the_first_completion_counts():
    pairs = pairs_of(torch.tensor([2.0, 1.0, 2.0, 1.0]), group_size=4)
    assert (pairs.best.item(), pairs.worst.item()) == (0, 1)


def test_equal_totals_make_no_pair():
    pairs = pairs_of(torch.tensor([2.0, 2.0, 1.0, 2.0]), group_size=2)
    assert pairs.tied.tolist() == [True, False]


def test_totals_that_differ_by_rounding_alone_make_no_pair():
    pairs = pairs_of(torch.tensor([0.1 + 0.2, 0.3, 0.3001, 0.3], dtype=torch.float64), group_size=2)
    assert pairs.tied.tolist() == [True, False]


def test_the_margin_is_the_difference_of_two_log_ratios_over_all_tokens_without_padding():
    logps = torch.tensor([[-1.0, -2.0, -9.0], [-3.0, -1.0, -1.0]])
    reference = torch.tensor([[-1.5, -2.5, -1.0], [-2.0, -1.0, -2.0]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    assert margins(logps, reference, mask).tolist() == [(0.5 + 0.5) - (-1.0 + 0.0 + 1.0)]


@pytest.mark.parametrize("margin", [-3.0, 0.0, 2.0])
def test_the_sigmoid_loss(margin):
    loss = pair_losses(torch.tensor([margin]), beta=0.1, loss="sigmoid").item()
    assert loss == pytest.approx(-math.log(1 / (1 + math.exp(-0.1 * margin))))


@pytest.mark.parametrize(("margin", "expected"), [(5.0, 0.0), (0.0, 25.0), (7.0, 4.0)])
def test_the_ipo_loss_is_lowest_at_the_margin_1_over_2_beta(margin, expected):
    assert pair_losses(torch.tensor([margin]), beta=0.1, loss="ipo").item() == pytest.approx(expected)
