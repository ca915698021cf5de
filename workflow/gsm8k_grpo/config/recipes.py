"""The recipes: files of workflow/recipes, each of which extends another one, down to defaults.yaml.

`extends: NAME` in a recipe names the file whose values the recipe replaces; it is not a key of the configuration.  A
file without it extends defaults.yaml, which has every key.
"""

from functools import reduce
from pathlib import Path
from typing import Any

from gsm8k_grpo.config import errors, layers
from gsm8k_grpo.files import PipelineError

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
DEFAULTS = "defaults"
MORE_SETS = "more-sets"
BASES = (DEFAULTS, MORE_SETS, "unsloth-notebook")  # files that recipes extend, and that can't be chosen as a recipe


def files() -> list[str]:
    """The names that a recipe may extend."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def recipes() -> list[str]:
    """The names that the key `recipe` may have."""
    return [name for name in files() if name not in BASES]


def read_recipe(name: str) -> dict[str, Any]:
    """The keys of a recipe, merged with those of the files that it extends.

    Raises:
        PipelineError: if a file is not YAML, or if `extends` has an unknown name or makes a circle.
    """
    return reduce(layers.merge, chain(name).values())


def more_sets() -> dict[str, dict[str, Any]]:
    """The test sets that `evaluate.more_sets` adds, by the path of their file in the project."""
    return {_label(MORE_SETS): layers.read(RECIPES / f"{MORE_SETS}.yaml")["evaluate"]["sets"]}


def chain(name: str) -> dict[str, dict[str, Any]]:
    """The keys of each file that makes up a recipe, by its path in the project; defaults.yaml comes first.

    Raises:
        PipelineError: see `read_recipe`.
    """
    names, keys = [name], [layers.read(RECIPES / f"{name}.yaml")]
    while names[-1] != DEFAULTS:
        extended = keys[-1].pop("extends", DEFAULTS)
        choices = [file for file in files() if file not in names]
        if extended not in choices:
            circle = f"{' extends '.join([*names, extended])} is a circle; " if extended in names else ""
            raise PipelineError(
                f"{_label(names[-1])}: extends = {errors.as_written(extended)}: {circle}choose from "
                f"{', '.join(choices)}"
            )
        names.append(extended)
        keys.append(layers.read(RECIPES / f"{extended}.yaml"))
    return {_label(name): keys for name, keys in zip(reversed(names), reversed(keys), strict=True)}


def _label(name: str) -> str:
    return f"workflow/recipes/{name}.yaml"
