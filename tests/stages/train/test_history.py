"""history.csv: what the trainer logs, one row per step, under this project's names."""

import pandas as pd
import pytest
from gsm8k_grpo.stages.train.history import (
    COLUMNS,
    HistoryFormat,
    prompts_seen_by_epoch,
    prompts_seen_by_generation,
    reward_columns,
)

REWARDS = ("int", "correctness")
SUMMARY = {"train_runtime": 60.0, "train_loss": 0.1, "step": 4, "epoch": 0.5}


def generated(step, reward, **more):
    """The log of a step that generates."""
    return {
        "step": step,
        "epoch": step / 8,
        "loss": 0.01 * step,
        "grad_norm": 0.5,
        "learning_rate": 1e-4 / step,
        "entropy": 1.0,
        "num_tokens": 100.0 * step,
        "completions/mean_length": 20.0 + step,
        "completions/min_length": 3.0,
        "completions/clipped_ratio": 0.25,
        "rewards/int_reward_func/mean": reward / 5,
        "rewards/int_reward_func/std": 0.1,
        "rewards/correctness_reward_func/mean": reward * 4 / 5,
        "reward": reward,
        "reward_std": 0.75,
        "frac_reward_zero_std": 0.125,
        "seconds_generate": 3.0,
        "seconds_score": 0.5,
        "seconds_update": 1.5,
    } | more


def trained(step, **more):
    """The log of a step that trains on completions of an earlier one."""
    return {
        "step": step,
        "epoch": step / 8,
        "loss": 0.01 * step,
        "grad_norm": 0.25,
        "learning_rate": 1e-4 / step,
        "entropy": 0.5,
        "seconds_generate": 0.0,
        "seconds_score": 0.0,
        "seconds_update": 1.25,
    } | more


@pytest.fixture
def train(small):
    """Four prompts a step, eight completions each."""
    return shaped(small.train, 32, 1, 8, 4, 1)


def rows(log_history, train, rewards):
    """The rows of a GRPO run."""
    return HistoryFormat(lambda step: prompts_seen_by_generation(step, train), rewards).rows(log_history)


def shaped(train, batch, accumulation, generations, steps_per_generation, iterations):
    return train.model_copy(
        update={
            "per_device_train_batch_size": batch,
            "gradient_accumulation_steps": accumulation,
            "num_generations": generations,
            "steps_per_generation": steps_per_generation,
            "num_iterations": iterations,
        }
    )


def test_a_logged_step_becomes_a_row_with_this_projects_names(train):
    assert rows([generated(2, reward=2.5)], train, REWARDS) == [
        {
            "step": 2,
            "prompts_seen": 8,
            "epoch": 0.25,
            "reward": 2.5,
            "reward_std": 0.75,
            "zero_variance_share": 0.125,
            "kl": None,
            "entropy": 1.0,
            "completion_tokens": 22.0,
            "clipped_share": 0.25,
            "loss": 0.02,
            "learning_rate": 5e-5,
            "grad_norm": 0.5,
            "tokens": 200.0,
            "seconds_generate": 3.0,
            "seconds_score": 0.5,
            "seconds_update": 1.5,
            "reward_int": 0.5,
            "reward_correctness": 2.0,
        }
    ]


def test_the_columns_are_the_same_in_every_row(train):
    steps = rows([generated(1, 1.0), trained(2), generated(3, 2.0, kl=0.1)], train, REWARDS)
    expected = ["step", "prompts_seen", "epoch", *COLUMNS, "reward_int", "reward_correctness"]
    assert [list(row) for row in steps] == [expected] * 3


def test_a_step_without_a_generation_carries_the_last_generations_values(train):
    first, second, third, fourth = rows([generated(1, 1.0), trained(2), trained(3), generated(4, 3.0)], train, REWARDS)
    carried = {
        "reward": 1.0,
        "reward_int": 0.2,
        "reward_correctness": 0.8,
        "reward_std": 0.75,
        "zero_variance_share": 0.125,
        "completion_tokens": 21.0,
        "clipped_share": 0.25,
        "tokens": 100.0,
    }
    for row in (first, second, third):
        assert {key: row[key] for key in carried} == carried
    assert (fourth["reward"], fourth["completion_tokens"], fourth["tokens"]) == (3.0, 24.0, 400.0)


def test_what_a_step_does_itself_is_not_carried(train):
    first, second = rows([generated(1, 1.0, kl=0.2), trained(2)], train, REWARDS)
    assert (first["kl"], second["kl"]) == (0.2, None)
    assert [second[key] for key in ("loss", "grad_norm", "entropy", "seconds_generate", "seconds_update")] == [
        0.02, 0.25, 0.5, 0.0, 1.25,
    ]  # fmt: skip


def test_a_run_without_a_reference_model_has_no_kl(train):
    assert [row["kl"] for row in rows([generated(1, 1.0), trained(2)], train, REWARDS)] == [None, None]


@pytest.mark.parametrize(
    ("shape", "seen"),
    [
        ((32, 1, 8, 4, 1), [4, 8, 12, 16, 20]),
        ((6, 1, 6, 1, 1), [1, 2, 3, 4, 5]),
        ((1, 6, 6, 6, 1), [1, 2, 3, 4, 5]),
        ((8, 4, 8, 8, 1), [4, 8, 12, 16, 20]),
        # further iterations over a generation see no new prompts
        ((6, 1, 6, 1, 2), [1, 1, 2, 2, 3]),
        ((32, 1, 8, 2, 2), [4, 8, 8, 8, 12]),
        ((8, 4, 16, 4, 4), [2, 2, 2, 2, 4]),
    ],
)
def test_prompts_seen_follow_from_batch_accumulation_generations_and_iterations(small, shape, seen):
    log = [generated(step, 1.0) for step in range(1, 6)]
    assert [row["prompts_seen"] for row in rows(log, shaped(small.train, *shape), REWARDS)] == seen


@pytest.mark.parametrize(
    ("shape", "seen"),
    [
        ((32, 4, 1), [4, 8, 12, 16, 20, 24, 28, 32, 36]),
        # 11 batches of 3, the last one of 2; the sixth step has the last batch only
        ((32, 3, 2), [6, 12, 18, 24, 30, 32, 38, 44, 50]),
        ((3, 8, 1), [3, 6, 9, 12, 15, 18, 21, 24, 27]),
    ],
)
def test_prompts_seen_by_epoch_count_every_row_once_per_epoch(shape, seen):
    assert [prompts_seen_by_epoch(step, *shape) for step in range(1, 10)] == seen


def test_the_summary_at_the_end_of_a_run_is_no_step(train):
    assert [row["step"] for row in rows([generated(1, 1.0), trained(2), SUMMARY], train, REWARDS)] == [1, 2]


def test_a_run_that_logged_nothing_has_no_rows(train):
    assert rows([], train, REWARDS) == []


def test_only_the_rewards_of_the_run_have_columns(train):
    row = rows([generated(1, 1.0)], train, ["correctness"])[0]
    assert [key for key in row if key.startswith("reward_")] == ["reward_std", "reward_correctness"]


def test_the_reward_columns_are_the_reward_functions_without_their_sum_and_spread(train):
    frame = pd.DataFrame(rows([generated(1, 1.0)], train, REWARDS))
    assert reward_columns(frame) == ["reward_int", "reward_correctness"]
