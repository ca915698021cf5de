"""What it takes to make the run again: commit, locked packages, data, seeds, command; and how its settings differ
from those of the published run.
"""

import json
import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsm8k_grpo.config import layers
from gsm8k_grpo.config.params import Params
from gsm8k_grpo.config.recipes import RECIPES, read_recipe
from gsm8k_grpo.files import sha256
from gsm8k_grpo.stages.report.results import Results

ENVS = RECIPES.parent.parent / "envs"
PUBLISHED = "rtx4090-published"
UNPUBLISHED = {"evaluate", "sft"}  # sections of that recipe that its source says nothing of
IMAGE = "GSM8K_GRPO_IMAGE"  # the digest of the image, which `make container-report` tells the container
ABSENT = object()


@dataclass(frozen=True)
class Setting:
    """A key of the configuration; `value` and `published` are `ABSENT` where it has no such key.

    `published` is that of the published recipe, which doesn't set what stands in params.yaml.
    """

    key: str
    value: Any
    published: Any

    @property
    def differs(self) -> bool:
        """Of a section that the published recipe sets to null, the keys differ here, not the section."""
        if self.published is ABSENT or (self.published is None and self.value is ABSENT):
            return False
        return self.value != self.published


def settings(params: Params) -> list[Setting]:
    """Every key of the configuration and of the published recipe."""
    here = dict(_flat(params.model_dump()))
    recipe = read_recipe(PUBLISHED)
    published = dict(_flat({section: keys for section, keys in recipe.items() if section not in UNPUBLISHED}))
    keys = dict.fromkeys([*here, *published])
    return [Setting(key, here.get(key, ABSENT), published.get(key, ABSENT)) for key in keys]


def _flat(nested: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in nested.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def command() -> str:
    """The pipeline's command line, with what `--config` gave this run."""
    overrides = json.loads(os.environ.get(layers.ENVIRONMENT, "{}"))
    given = [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in overrides.items()]
    return shlex.join(["snakemake", "--cores", "1", "report", *(["--config", *given] if given else [])])


def lock(found: Results) -> Path:
    """The lock file of the machine that trained."""
    return ENVS / ("cpu.txt" if found.device == "cpu" else "cuda.txt")


def identities(found: Results, commit: str) -> dict[str, str]:
    """What the run is made of, by its digests."""
    locked = lock(found)
    parts = {"git commit": commit, f"envs/{locked.name}": f"sha256 {sha256(locked)}"}
    parts |= {name: f"sha256 {file['sha256']}" for name, file in found.source["files"].items()}
    if os.environ.get(IMAGE):
        parts["container image"] = os.environ[IMAGE]
    return parts
