"""What GRPO could learn from a model: on what share of the prompts its sampled answers get different rewards.

GRPO compares the answers of a group with each other, so a group whose rewards are all equal teaches nothing.  The
answers here are those that the evaluation samples anyway.  Training samples `train.num_generations` answers to each
prompt of another split, at its own temperature, so the share in training may be another one: the more answers to a
prompt, the more often their rewards differ.
"""

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np

from gsm8k_grpo.analysis.metrics import TOTAL
from gsm8k_grpo.analysis.significance import share_interval
from gsm8k_grpo.config.params import Params
from gsm8k_grpo.config.sections import Rewards
from gsm8k_grpo.gsm8k.answer_formats import AnswerForm
from gsm8k_grpo.gsm8k.rewards import EQUAL, names_for, reward_functions
from gsm8k_grpo.models.engine import Completion
from gsm8k_grpo.records import Example, RewardSignal


def measurable(params: Params) -> bool:
    """Whether `rewards` can grade answers to the test split: rewards need numbers in a form that they know."""
    known = names_for(params.rewards.set, params.extract.answer_form)
    return params.extract.answers == "gsm8k" and set(params.rewards.weights) <= set(known)


def reward_signals(
    examples: Sequence[Example], completions: Sequence[Sequence[Completion]], rewards: Rewards, form: AnswerForm
) -> list[RewardSignal]:
    """One row per reward function, then one for their weighted sum.

    Args:
        examples: the questions.
        completions: the sampled answers to each question, the same number for each.
        rewards: the functions and their weights.
        form: the form of answers that the prompt asks for.
    """
    samples = len(completions[0])
    chats = [[{"role": "assistant", "content": answer.text}] for group in completions for answer in group]
    asked = [example for example in examples for _ in range(samples)]
    values = {
        name: function(
            prompts=[example["prompt"] for example in asked],
            completions=chats,
            answer=[example["answer"] for example in asked],
            trainer_state=SimpleNamespace(global_step=0),  # as the rewards of the set `control` need it
        )
        for name, function in zip(rewards.weights, reward_functions(rewards.set, rewards.weights, form), strict=True)
    }
    columns = {name: np.asarray(column, dtype=float) for name, column in values.items()}
    columns[TOTAL] = np.sum([weight * columns[name] for name, weight in rewards.weights.items()], axis=0)
    return [_row(name, column.reshape(len(examples), samples)) for name, column in columns.items()]


def _row(name: str, rewards: np.ndarray) -> RewardSignal:
    """The row of one reward, from its values of shape (prompts, samples)."""
    prompts, samples = rewards.shape
    differing = int((np.ptp(rewards, axis=1) > EQUAL).sum())
    return {
        "reward": name,
        "share": differing / prompts,
        "ci95": share_interval(differing, prompts),
        "n": prompts,
        "samples": samples,
    }
