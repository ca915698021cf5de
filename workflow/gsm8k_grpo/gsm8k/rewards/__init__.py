"""Reward functions with TRL's signature, in sets that share one table of names.

`published` has the functions of the published notebooks, quirks included; `robust` has the same ideas without the
quirks; `control` has rewards that teach nothing.  A function takes the keyword arguments that TRL's GRPOTrainer passes
(`prompts`, `completions`, the columns of the data set, `trainer_state`) and returns one float per completion.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Literal

from gsm8k_grpo.gsm8k.rewards import control, published, robust

RewardSet = Literal["published", "robust", "control"]
RewardFunction = Callable[..., list[float]]

SUFFIX = "_reward_func"
SETS: dict[RewardSet, ModuleType] = {"published": published, "robust": robust, "control": control}
TABLE: dict[RewardSet, dict[str, RewardFunction]] = {
    name: {key.removesuffix(SUFFIX): function for key, function in vars(module).items() if key.endswith(SUFFIX)}
    for name, module in SETS.items()
}
NAMES: dict[RewardSet, list[str]] = {name: list(functions) for name, functions in TABLE.items()}
