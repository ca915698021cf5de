"""history.csv: one row per optimizer step, in the terms of this project.

TRL logs rewards and completion lengths only at the steps that generate; a step that trains on an earlier
generation's completions gets that generation's values here, for it is what the step learned from.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from gsm8k_grpo.config.sections import Train
from gsm8k_grpo.gsm8k.rewards import SUFFIX

COLUMNS = {
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
OF_THE_GENERATION = {"reward", "reward_std", "zero_variance_share", "completion_tokens", "clipped_share", "tokens"}

Row = dict[str, float | int | None]


def rows(log_history: Iterable[dict[str, Any]], train: Train, rewards: Iterable[str]) -> list[Row]:
    """The rows of a run from the Trainer's `state.log_history`, see `row`."""
    found: list[Row] = []
    for logged in log_history:
        if "grad_norm" in logged:  # the summary that ends a run has none
            found.append(row(logged, found[-1] if found else None, train, rewards))
    return found


def row(logged: dict[str, Any], before: Row | None, train: Train, rewards: Iterable[str]) -> Row:
    """One step's row, from its log entry and the row before it.

    Columns are `step, prompts_seen, epoch`, those of `COLUMNS`, and `reward_<name>` for each reward.  `kl` is
    None where the run uses none, and so is what GRPO alone has in a run of supervised fine-tuning, whose entry says
    `prompts_seen` itself and has the length of the answers for that of completions.
    """
    found: Row = {
        "step": logged["step"],
        "prompts_seen": logged.get("prompts_seen", _prompts_seen(logged["step"], train)),
        "epoch": logged["epoch"],
    }
    for column, key in (COLUMNS | {f"reward_{name}": f"rewards/{name}{SUFFIX}/mean" for name in rewards}).items():
        carried = column in OF_THE_GENERATION or column.startswith("reward_")
        found[column] = logged.get(key, before[column] if carried and before else None)
    return found


def reward_columns(frame: pd.DataFrame) -> list[str]:
    """The columns that hold the mean of one reward function each."""
    return [column for column in frame if column.startswith("reward_") and column != "reward_std"]


def read(path: Path) -> list[Row]:
    """The rows of a history.csv, an empty cell as None."""
    frame = pd.read_csv(path)
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


def _prompts_seen(step: int, train: Train) -> int:
    """Prompts that the steps so far trained on, each counted once a generation: further iterations add none."""
    a_step = train.per_device_train_batch_size * train.gradient_accumulation_steps // train.num_generations
    generations, steps = divmod(step, train.optimizer_steps_per_generation)
    return generations * train.prompts_per_generation + min(steps * a_step, train.prompts_per_generation)
