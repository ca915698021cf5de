"""The options that several commands share, and how a command loads its configuration and holds its lock."""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import typer

from gsm8k_grpo.config import layers, params
from gsm8k_grpo.config.overrides import parse_override
from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.runtime import locks, workspace

RESULTS = Path("results")
Choice = TypeVar("Choice", bound=str)

Overrides = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Set a key of the configuration, such as train.learning_rate=1e-4; repeatable.",
    ),
]
Part = Annotated[
    Literal["splits", "sets"] | None,
    typer.Option(help="Only the splits train and test, or only the further test sets.  The default is both."),
]


def load(overrides: list[str]) -> params.Params:
    """The configuration with the overrides of Snakemake's `--config` and then those of `--set`."""
    return params.load(overrides=workflow_config() | parse_overrides(overrides))


def workflow_config() -> dict[str, Any]:
    """The keys of Snakemake's `--config`, which the workflow passes on in the environment."""
    return json.loads(os.environ.get(layers.ENVIRONMENT, "{}"))


def parse_overrides(overrides: list[str]) -> dict[str, Any]:
    """The keys and values of `--set`."""
    return dict(map(parse_override, overrides))


@contextmanager
def exclusive(stage: str, model: str = "") -> Iterator[None]:
    """Hold the lock of a stage, or of a stage for one model, so that it runs once at a time in this folder.

    Raises:
        PipelineError: if another process holds it, or the folder can't be written.
    """
    workspace.require_writable(RESULTS)
    with locks.held(f"{stage}-{model}" if model else stage):
        yield


def require_choice(option: str, value: str, choices: Iterable[Choice]) -> Choice:
    """The choice that an option's value names.

    Raises:
        PipelineError: if it names none; the message lists all choices.
    """
    by_name = {str(choice): choice for choice in choices}
    if value not in by_name:
        raise PipelineError(f"{option} {value}: choose from {', '.join(by_name)}")
    return by_name[value]
