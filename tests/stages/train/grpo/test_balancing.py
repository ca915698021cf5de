"""How groups are dealt to the ranks; test_ranks.py has ranks that exchange them."""

import pytest
import torch
from gsm8k_grpo.stages.train.grpo.balancing import balanced, deal
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("costs", "dealt"),
    [
        ([9, 1, 8, 2], [[0, 1], [2, 3]]),
        ([9, 8, 2, 1], [[0, 3], [1, 2]]),
        ([0, 0, 0, 7], [[2, 3], [0, 1]]),  # groups that are not computed cost nothing
        ([5, 5, 5, 5, 5, 5], [[0, 2, 4], [1, 3, 5]]),
    ],
)
def test_the_dearest_groups_go_to_the_cheapest_hands_with_room(costs, dealt):
    assert deal(costs, 2) == dealt


@given(st.integers(1, 4), st.integers(1, 6), st.data())
def test_every_group_is_dealt_once_and_hands_are_equally_large(hands, size, data):
    costs = data.draw(st.lists(st.integers(0, 1000), min_size=hands * size, max_size=hands * size))
    dealt = deal(costs, hands)
    assert sorted(index for hand in dealt for index in hand) == list(range(hands * size))
    assert {len(hand) for hand in dealt} == {size}
    totals = [sum(costs[index] for index in hand) for hand in dealt]
    assert max(totals) - min(totals) <= max(costs)


def test_a_process_that_trains_alone_keeps_its_batches():
    generated = {"completion_mask": torch.ones(8, 3), "prompt_mask": torch.ones(8, 2)}
    assert balanced(generated, torch.ones(8, dtype=torch.bool), batches=2, groups=4) is generated
