"""The steps, samples, warnings and totals of a training run."""

from typing import Any, Literal, TypedDict

Method = Literal["grpo", "rloo", "online_dpo", "ppo", "sft"]
"""A training method, as `method:` names it; `config.methods` has the traits of each."""

HistoryRow = dict[str, float | int | None]
"""One row of results/train/<variant>/history.csv, one optimizer step.  Its columns depend on the rewards: see
`stages.train.history`."""


class TrainingSample(TypedDict):
    """results/train/<variant>/samples.jsonl: one completion sampled during training."""

    step: int
    question: str
    completion: str
    rewards: dict[str, float]
    """Unweighted value of each reward function, by its name."""


class Session(TypedDict):
    """session.json of a checkpoint: what the run has taken so far, over all its sessions."""

    seconds: float
    seconds_saving: float
    energy_kwh: float | None
    """None if any session ran on a GPU without an energy counter."""
    peak_memory_gib: float
    sessions: int
    """The number of times that training was started, including the first."""


WarningKind = Literal["no_signal", "cut", "entropy"]
"""What a warning of training is about: equal rewards, completions that are cut off, or the entropy."""


class TrainingWarning(TypedDict):
    """Something that keeps a run from learning, as training printed it; see `stages.train.signal`."""

    step: int
    kind: WarningKind
    text: str


class TrainingMetrics(Session):
    """results/train/<variant>/metrics.json: a whole training run."""

    prompts: int
    """The number of rows of the train split that the run uses."""
    prompts_available: int
    prompts_left_out_per_epoch: int
    """The number of rows at the end of an epoch that do not fill a generation."""
    mlflow_run_id: str | None
    mlflow_run_key: str
    method: Method
    steps: int
    epochs: float
    prompts_seen: int
    tokens: int
    skipped_steps: int
    """The number of steps whose gradients overflowed float16, so that the loss scaler skipped them."""
    reward_first: float | None
    """Mean reward of the first step; None for a method without rewards."""
    reward_last: float | None
    share_without_signal: float | None
    """Share of the groups whose rewards were all equal, over the whole run; None for a method without groups."""
    warnings: list[TrainingWarning]
    """At most one of each kind, in the order of their steps."""
    stopped_at: int | None
    """The step after which `train.stop_without_signal` ended the run; None if it trained to its end."""
    stop_reason: str | None
    seconds_generate: float
    seconds_score: float
    seconds_update: float
    effective_config: dict[str, Any]
    """The settings that the trainer really ran with, read back from it, under TRL's names."""
