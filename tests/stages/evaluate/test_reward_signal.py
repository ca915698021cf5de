"""On what share of the prompts the rewards of sampled answers differ."""

import pytest
from gsm8k_grpo.config import params
from gsm8k_grpo.config.sections import Rewards
from gsm8k_grpo.gsm8k.tags import tagged
from gsm8k_grpo.models.engine import Completion
from gsm8k_grpo.stages.evaluate.signal import measurable, reward_signals

RIGHT, WRONG, BARE = tagged("3 + 4 = 7", "7"), tagged("3 + 4 = 8", "8"), "The answer is 7."
REWARDS = Rewards(set="robust", weights={"strict_format": 1.0, "correctness": 1.0})
EXAMPLE = {"id": "test-0", "prompt": [], "question": "What is 3 and 4?", "answer": "7", "solution": "#### 7"}


def signal(*groups, rewards=REWARDS):
    """The share of each reward, for one question with several answers in each group."""
    completions = [[Completion(text, 5, False) for text in group] for group in groups]
    rows = reward_signals([EXAMPLE] * len(groups), completions, rewards, "tags")
    assert {(row["n"], row["samples"]) for row in rows} == {(len(groups), len(groups[0]))}
    return {row["reward"]: row["share"] for row in rows}


def test_answers_of_the_same_form_and_correctness_have_no_signal():
    assert signal([RIGHT, RIGHT], [WRONG, WRONG]) == {"strict_format": 0.0, "correctness": 0.0, "total": 0.0}


def test_each_reward_counts_the_prompts_on_which_it_differs():
    assert signal([RIGHT, WRONG], [WRONG, BARE], [BARE, BARE], [RIGHT, BARE]) == {
        "strict_format": 0.5, "correctness": 0.5, "total": 0.75,
    }  # fmt: skip


def test_rewards_that_cancel_each_other_have_no_signal_in_total():
    opposed = Rewards(set="robust", weights={"strict_format": -4.0, "correctness": 1.0})
    assert signal([RIGHT, BARE], rewards=opposed) == {"strict_format": 1.0, "correctness": 1.0, "total": 0.0}


def test_a_difference_by_rounding_alone_is_none():
    thirds = Rewards(set="robust", weights={"strict_format": 0.2, "int": 0.2, "xmlcount": 0.1})
    assert signal([RIGHT, WRONG], rewards=thirds)["total"] == 0.0


def test_the_interval_is_wilsons():
    completions = [[Completion(text, 5, False) for text in (RIGHT, WRONG)], [Completion(BARE, 5, False)] * 2]
    row = next(
        row for row in reward_signals([EXAMPLE] * 2, completions, REWARDS, "tags") if row["reward"] == "correctness"
    )
    assert row["ci95"] == pytest.approx([0.0945, 0.9055], abs=1e-3)


def test_rewards_that_the_run_does_not_use_may_not_fit_its_answers(root):
    def settings(**overrides):
        return params.load(root / "params.yaml", overrides)

    assert measurable(settings())
    assert not measurable(settings(**{"extract.answers": "free", "method": "sft"}))
    assert not measurable(settings(**{"extract.answer_form": "boxed", "method": "sft"}))  # xmlcount knows tags only
