"""history.csv: one row per optimizer step, with this project's names for TRL's log keys.

TRL logs rewards and completion lengths only at the steps that generate.  A step that learns from completions of an
earlier generation gets that generation's values here.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from gsm8k_grpo.config.sections import Train
from gsm8k_grpo.gsm8k.rewards import SUFFIX
from gsm8k_grpo.records import HistoryRow

COLUMNS = {  # columns of history.csv: TRL's log keys
    "reward": "reward",
    "reward_std": "reward_std",
    "zero_variance_share": "frac_reward_zero_std",
    "kl": "kl",
    "entropy": "entropy",
    "completion_tokens": "completions/mean_length",
    "clipped_share": "completions/clipped_ratio",
    "loss": "loss",
    "learning_rate": "learning_rate",
    "grad_norm": "grad_norm",
    "tokens": "num_tokens",
    "seconds_generate": "seconds_generate",
    "seconds_score": "seconds_score",
    "seconds_update": "seconds_update",
}
SECONDS = ("seconds_generate", "seconds_score", "seconds_update")
# Columns whose values are those of a generation, so that every step on its completions has the same ones.
OF_THE_GENERATION = {"reward", "reward_std", "zero_variance_share", "completion_tokens", "clipped_share", "tokens"}


@dataclass(frozen=True)
class HistoryFormat:
    """Turns a trainer's log into rows.

    A row has the columns `step, prompts_seen, epoch`, those of `COLUMNS`, `reward_<name>` for each reward, and those of
    `own`.  A value that was not logged is None: `kl` without a reference model, the rewards in supervised fine-tuning,
    and the `grad_norm` of a step that the loss scaler of float16 skipped.

    Attributes:
        prompts_seen: gives for a step how many prompts training has used up to it.
        rewards: names of the reward functions.
        own: columns that only the method has, with their log keys.
    """

    prompts_seen: Callable[[int], int]
    rewards: Sequence[str]
    own: dict[str, str] = field(default_factory=dict)

    def rows(self, log_history: Iterable[dict[str, Any]]) -> list[HistoryRow]:
        """The rows of a run, from `state.log_history` of its trainer."""
        rows: list[HistoryRow] = []
        for logged in log_history:
            if "grad_norm" in logged:  # the summary at the end of a run has none
                rows.append(self.row(logged, rows[-1] if rows else None))
        return rows

    def row(self, logged: dict[str, Any], before: HistoryRow | None) -> HistoryRow:
        """The row of one step, from its log entry and the row before it."""
        step = logged["step"]
        row: HistoryRow = {"step": step, "prompts_seen": self.prompts_seen(step), "epoch": logged["epoch"]}
        reward_keys = {f"reward_{name}": f"rewards/{name}{SUFFIX}/mean" for name in self.rewards}
        for column, key in (COLUMNS | reward_keys | self.own).items():
            carried = column in OF_THE_GENERATION or column.startswith("reward_")
            row[column] = logged.get(key, before[column] if carried and before else None)
        return row


def skipped_steps(rows: Iterable[HistoryRow]) -> int:
    """The number of steps that the loss scaler of float16 skipped, which left the weights as they were."""
    return sum(row["grad_norm"] is None for row in rows)


def prompts_seen_by_generation(step: int, train: Train) -> int:
    """The number of prompts that the first `step` steps trained on, each counted once per generation.

    Further iterations over the same generation add nothing to it.
    """
    per_step = train.per_device_train_batch_size * train.gradient_accumulation_steps // train.num_generations
    generations, steps = divmod(step, train.optimizer_steps_per_generation)
    return generations * train.prompts_per_generation + min(steps * per_step, train.prompts_per_generation)


def prompts_seen_by_epoch(step: int, rows: int, batch_size: int, accumulation_steps: int) -> int:
    """The number of rows that the first `step` steps trained on, each counted once per epoch.

    The last step of an epoch trains on the rows that remain.
    """
    steps_per_epoch = math.ceil(math.ceil(rows / batch_size) / accumulation_steps)
    epochs, steps = divmod(step, steps_per_epoch)
    return epochs * rows + min(steps * batch_size * accumulation_steps, rows)


def reward_columns(frame: pd.DataFrame) -> list[str]:
    """The columns that each hold the mean of one reward function."""
    return [column for column in map(str, frame) if column.startswith("reward_") and column != "reward_std"]


def read(path: Path) -> list[HistoryRow]:
    """The rows of a history.csv, with None for an empty cell."""
    frame = pd.read_csv(path)
    rows: list[Any] = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return rows
