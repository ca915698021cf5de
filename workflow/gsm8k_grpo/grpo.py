"""TRL's GRPOTrainer, unchanged in what it computes, that also says where the time goes and keeps completions."""

import time
from contextlib import contextmanager
from typing import Any

import torch
from trl import GRPOTrainer


class Trainer(GRPOTrainer):
    """Adds `seconds_generate`, `seconds_score` and `seconds_update` to every step's log, and `latest`.

    `latest` holds the last generation batch: its prompts, completions and rewards, a row a completion, in
    groups of `num_generations` rows per prompt.  Rewards have shape (completions, reward functions).
    """

    latest: tuple[list[Any], list[Any], torch.Tensor]

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._seconds = {"seconds_generate": 0.0, "seconds_score": 0.0}
        self._step_began = 0.0

    def training_step(self, *args, **kwargs):
        self._step_began = self._step_began or time.perf_counter()
        return super().training_step(*args, **kwargs)

    def _generate(self, prompts):
        with self._timed("seconds_generate"):
            return super()._generate(prompts)

    def _calculate_rewards(self, inputs, prompts, completions, completion_ids_list):
        with self._timed("seconds_score"):
            rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        self.latest = (prompts, completions, rewards)
        return rewards

    def log(self, logs, start_time=None):
        if self._step_began:
            total = time.perf_counter() - self._step_began
            logs |= self._seconds | {"seconds_update": total - sum(self._seconds.values())}
            self._seconds = dict.fromkeys(self._seconds, 0.0)
            self._step_began = 0.0
        super().log(logs, start_time)

    @contextmanager
    def _timed(self, name: str):
        began = time.perf_counter()
        yield
        self._seconds[name] += time.perf_counter() - began
