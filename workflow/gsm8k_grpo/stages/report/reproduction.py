"""What is needed to reproduce the run (commit, locked packages, data, command), and how its settings differ from those
of the published run.
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
UNPUBLISHED = {"evaluate", "sft"}  # sections of the published recipe about which its source says nothing
IMAGE = "GSM8K_GRPO_IMAGE"  # environment variable with the digest of the image, set by `make container-report`
ABSENT = object()


@dataclass(frozen=True)
class Setting:
    """A key of the configuration, with its value in this run and in the published recipe.

    A value is `ABSENT` if there is no such key.  The published recipe doesn't have the keys of params.yaml.
    """

    key: str
    value: Any
    published: Any

    @property
    def differs(self) -> bool:
        """Whether the values differ.

        If the published recipe sets a section to null and this run has the section, the keys of the section differ, and
        not the section itself.
        """
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
    """The command line of this run, with its `--config`."""
    overrides = json.loads(os.environ.get(layers.ENVIRONMENT, "{}"))
    settings = [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in overrides.items()]
    return shlex.join(["snakemake", "--cores", "1", "report", *(["--config", *settings] if settings else [])])


def lock(results: Results) -> Path:
    """The lock file of the packages that the run was trained with."""
    return ENVS / ("cpu.txt" if results.device == "cpu" else "cuda.txt")


def identities(results: Results, commit: str) -> dict[str, str]:
    """The digests of what the run consists of: code, packages, data and container image."""
    locked = lock(results)
    parts = {"git commit": commit, f"envs/{locked.name}": f"sha256 {sha256(locked)}"}
    parts |= {name: f"sha256 {file['sha256']}" for name, file in results.source["files"].items()}
    if os.environ.get(IMAGE):
        parts["container image"] = os.environ[IMAGE]
    return parts
