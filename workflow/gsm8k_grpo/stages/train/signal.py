"""Whether a run has anything to learn from: warnings for the user, and the end of a run that has nothing.

GRPO learns from differences between the rewards of a group.  Three things tell early that a run will come to nothing:
nearly all groups have equal rewards, most completions are cut off before they end, or the entropy has left the range
that it began in.  All of it is read from the rows of history.csv.  A resumed run has the rows from before, so it comes
to the same warnings, and to the same end, as one that was never interrupted.
"""

import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.records import HistoryRow, TrainingWarning, WarningKind
from gsm8k_grpo.stages.train.history import HistoryFormat

# A warning looks at the last generations: at least so many, with at least so many groups in all.  With fewer, chance
# alone could cause a warning.
GENERATIONS = 3
GROUPS = 48
NEARLY_ALL = 0.9  # share of groups with equal rewards
MOST = 0.5  # share of completions that are cut off
# Limits of the entropy (nats per token), compared with that of the first generations.  It falls in a healthy run too.
EXPLODED = 2.0  # it has exploded if it is above the first entropy times this
RISE = 1.0  # and also above the first entropy plus this, since a small entropy may double without harm
COLLAPSED = 0.05  # it has collapsed if it is below the first entropy times this

WITHOUT_SUCCESS = (
    "an example in the prompt (extract.one_shot: true), supervised fine-tuning first (start: sft), a lower "
    "train.temperature or other rewards may help"
)
WITH_SUCCESS = "the rewards have risen so far: the questions are too easy now, so harder ones or fewer steps may help"


class SignalWatch:
    """Reads the rows of a run one by one.

    Attributes:
        rows: those read so far.
        warnings: at most one of each kind.
    """

    def __init__(self, params: Params):
        self.train = params.train
        self.exact_entropy = params.backend == "trl"  # the backend unsloth computes the loss itself
        self.rows: list[HistoryRow] = []
        self.warnings: list[TrainingWarning] = []

    @property
    def window(self) -> int:
        """The number of steps in the generations that a warning looks at."""
        generations = max(GENERATIONS, math.ceil(GROUPS / self.train.prompts_per_generation))
        return generations * self.train.optimizer_steps_per_generation

    def add(self, row: HistoryRow) -> list[TrainingWarning]:
        """Read the row of the next step; returns the new warnings, which can only come at the end of a generation."""
        self.rows.append(row)
        if len(self.rows) % self.train.optimizer_steps_per_generation or len(self.rows) < self.window:
            return []
        known = {warning["kind"] for warning in self.warnings}
        found = _findings(self.rows[: self.window], self.rows[-self.window :], self)
        new: list[TrainingWarning] = [
            {"step": len(self.rows), "kind": kind, "text": text} for kind, text in found if kind not in known
        ]
        self.warnings += new
        return new

    @property
    def stop_reason(self) -> str | None:
        """Why `train.stop_without_signal` ends the run after the last row; None if it does not."""
        limit, steps = self.train.stop_without_signal, self.train.optimizer_steps_per_generation
        if limit is None or len(self.rows) % steps or len(self.rows) < limit * steps:
            return None
        if any(row["zero_variance_share"] != 1 for row in self.rows[-limit * steps :]):
            return None
        return f"all groups of the last {limit} generations had equal rewards (train.stop_without_signal: {limit})"


def watch(rows: Iterable[HistoryRow], params: Params) -> SignalWatch:
    """A watch that has read these rows."""
    watched = SignalWatch(params)
    for row in rows:
        watched.add(row)
    return watched


def share_without_signal(rows: Sequence[HistoryRow]) -> float | None:
    """The share of groups with equal rewards, averaged over the steps; None for a method without groups."""
    return _mean(rows, "zero_variance_share")


class SignalWatcher(TrainerCallback):
    """Prints each warning once, and stops a run without signal at the end of a generation, with a checkpoint."""

    def __init__(self, variant: str, history_format: HistoryFormat, params: Params):
        self.variant, self.history_format, self.params = variant, history_format, params
        self.watch = SignalWatch(params)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.watch = watch(self.history_format.rows(state.log_history), self.params)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] = {},
        **kwargs: Any,
    ) -> None:
        if "grad_norm" not in logs:  # the summary at the end of a run
            return
        before = self.watch.rows[-1] if self.watch.rows else None
        for warning in self.watch.add(self.history_format.row(state.log_history[-1], before)):
            print(f"train {self.variant}: step {warning['step']}: {warning['text']}", file=sys.stderr)
        if self.watch.stop_reason and state.global_step < state.max_steps:
            print(
                f"train {self.variant}: stopped after step {state.global_step} of {state.max_steps}: "
                f"{self.watch.stop_reason}; the results are those of the weights so far",
                file=sys.stderr,
            )
            control.should_save = control.should_training_stop = True


def _findings(
    first: Sequence[HistoryRow], last: Sequence[HistoryRow], watched: SignalWatch
) -> Iterator[tuple[WarningKind, str]]:
    """What is wrong with the last generations, compared with the first ones where that matters."""
    equal, cut = _mean(last, "zero_variance_share"), _mean(last, "clipped_share")
    if equal is not None and equal >= NEARLY_ALL:
        yield "no_signal", _equal_rewards(first, last, equal)
    if cut is not None and cut >= MOST:
        yield (
            "cut",
            f"{100 * cut:.0f} % of the last completions were cut off at train.max_completion_length "
            f"({watched.train.max_completion_length}), so most can't earn the reward of an answer; a longer "
            "train.max_completion_length, an example in the prompt (extract.one_shot: true), supervised fine-tuning "
            "first (start: sft) or a lower train.temperature may help",
        )
    began, now = _entropy(first), _entropy(last)
    if not watched.exact_entropy or began is None or now is None:
        return
    if now > max(EXPLODED * began, began + RISE):
        yield (
            "entropy",
            f"the entropy has risen from {began:.2f} to {now:.2f} nats per token, so completions become random; a "
            "lower train.learning_rate, a KL term (train.beta: 0.04) or a lower train.temperature may help",
        )
    elif now < COLLAPSED * began:
        yield (
            "entropy",
            f"the entropy has fallen from {began:.2f} to {now:.3f} nats per token, so the completions of a group are "
            "nearly the same; a lower train.learning_rate or a higher train.temperature may help",
        )


def _entropy(rows: Sequence[HistoryRow]) -> float | None:
    """The mean entropy in nats per token; if none was logged, the mean of -log p of the sampled tokens, whose expected
    value is the entropy.
    """
    entropy = _mean(rows, "entropy")
    return _mean(rows, "surprisal") if entropy is None else entropy


def _equal_rewards(first: Sequence[HistoryRow], last: Sequence[HistoryRow], share: float) -> str:
    began, now = _mean(first, "reward") or 0.0, _mean(last, "reward") or 0.0
    spread = _mean(first, "reward_std") or 0.0
    advice = WITH_SUCCESS if now > began + spread else WITHOUT_SUCCESS
    return (
        f"in {100 * share:.0f} % of the last groups all rewards were equal (mean reward {now:.2f}), and such a group "
        f"teaches nothing; {advice}"
    )


def _mean(rows: Sequence[HistoryRow], column: str) -> float | None:
    """The mean of a column; None if a row has no value in it."""
    values = [row.get(column) for row in rows]
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present and len(present) == len(values) else None
