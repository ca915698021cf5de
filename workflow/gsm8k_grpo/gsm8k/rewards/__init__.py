"""Reward functions with TRL's signature, in sets that share one table of names.

`published` has the functions of the published notebooks, quirks included; `robust` has the same ideas without the
quirks; `control` has rewards that teach nothing.  A function takes the keyword arguments that TRL's GRPOTrainer passes
(`prompts`, `completions`, the columns of the data set, `trainer_state`) and returns one float per completion.
"""

from collections.abc import Callable, Iterable
from functools import partial, update_wrapper
from inspect import signature
from types import ModuleType
from typing import Literal

from gsm8k_grpo.gsm8k.answer_formats import FORMATS, AnswerForm
from gsm8k_grpo.gsm8k.rewards import control, published, robust

RewardSet = Literal["published", "robust", "control"]
RewardFunction = Callable[..., list[float]]

SUFFIX = "_reward_func"
EQUAL = 1e-6  # rewards that differ by less are equal: sums of the same numbers may differ by rounding
SETS: dict[RewardSet, ModuleType] = {"published": published, "robust": robust, "control": control}
TABLE: dict[RewardSet, dict[str, RewardFunction]] = {
    name: {key.removesuffix(SUFFIX): function for key, function in vars(module).items() if key.endswith(SUFFIX)}
    for name, module in SETS.items()
}
NAMES: dict[RewardSet, list[str]] = {name: list(functions) for name, functions in TABLE.items()}


def names_for(of: RewardSet, form: AnswerForm) -> list[str]:
    """The names of the functions in a set that can be used if the prompt asks for answers in this form.

    The functions of `published` and some of `robust` know only tags; those of `control` read no answer.
    """
    if form == "tags" or of == "control":
        return NAMES[of]
    return [name for name, function in TABLE[of].items() if "format" in signature(function).parameters]


def reward_functions(of: RewardSet, names: Iterable[str], form: AnswerForm) -> list[RewardFunction]:
    """The functions of a set with these names, for answers in this form; each keeps its `__name__`, which TRL logs."""
    return [_for_form(TABLE[of][name], form) for name in names]


def _for_form(function: RewardFunction, form: AnswerForm) -> RewardFunction:
    if "format" not in signature(function).parameters:
        return function
    return update_wrapper(partial(function, format=FORMATS[form]), function)
