"""The command line: every stage by hand, in the order of the pipeline.  `gsm8k-grpo STAGE --help` explains."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from gsm8k_grpo import layers, params
from gsm8k_grpo.files import PipelineError

RESULTS = Path("results")

app = typer.Typer(
    help="GRPO on GSM8K: download, extract, base, train, evaluate, compare, report. "
    "The configuration is params.yaml over the recipe it names; --set goes over both.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

Overrides = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Change a key, such as train.learning_rate=1e-4.")
]


def load(overrides: list[str]) -> params.Params:
    """The configuration: what the workflow was given with --config counts as if given with --set, before it."""
    given = json.loads(os.environ.get(layers.ENVIRONMENT, "{}"))
    return params.load(overrides=given | dict(map(layers.parse_override, overrides)))


@app.command()
def download(overrides: Overrides = []) -> None:
    """Get the problems: from the hub, from a local folder, or generated."""
    from gsm8k_grpo.download import download as stage

    stage(RESULTS / "download", load(overrides))


@app.command()
def extract(overrides: Overrides = []) -> None:
    """Normalise the gold answers, make the prompts, cut validation from train."""
    from gsm8k_grpo.extract import extract as stage

    settings = load(overrides)
    stage(RESULTS / "download", RESULTS / "extract", settings.extract, settings.seed)


@app.command()
def base(overrides: Overrides = []) -> None:
    """Name the model that training starts from; with model: scratch, make and pretrain it."""
    from gsm8k_grpo.base import base as stage

    stage(RESULTS / "extract", RESULTS / "base", load(overrides))


@app.command()
def train(
    variant: Annotated[str, typer.Option(help="A variant of params.yaml, such as short or full.")],
    overrides: Overrides = [],
) -> None:
    """Train one variant with GRPO."""
    settings = load(overrides)
    _one_of("--variant", variant, list(settings.variants))
    from gsm8k_grpo.train import train as stage

    stage(variant, RESULTS / "extract", RESULTS / "base", RESULTS / "train" / variant, settings)


@app.command()
def evaluate(
    model: Annotated[str, typer.Option(help="base, or a trained variant.")],
    overrides: Overrides = [],
) -> None:
    """Ask one model the whole test split and the probes."""
    settings = load(overrides)
    _one_of("--model", model, ["base", *settings.variants])
    from gsm8k_grpo.evaluate import evaluate as stage

    stage(model, RESULTS / "extract", RESULTS / "base", RESULTS / "train", RESULTS / "evaluate" / model, settings)


@app.command()
def compare(overrides: Overrides = []) -> None:
    """Compare every pair of models on the same questions."""
    from gsm8k_grpo.compare import compare as stage

    settings = load(overrides)
    models = ["base", *settings.variants]
    stage(RESULTS / "evaluate", models, RESULTS / "compare", settings.compare, settings.seed)


@app.command()
def report(overrides: Overrides = []) -> None:
    """Write report.html and its figures."""
    from gsm8k_grpo.report import report as stage

    stage(RESULTS, RESULTS / "report", load(overrides))


@app.command()
def summary(overrides: Overrides = []) -> None:
    """Print the answer: the accuracies, whether they differ, and where the report is."""
    from gsm8k_grpo.summary import summary as lines

    typer.echo(lines(RESULTS, load(overrides)))


def _one_of(option: str, value: str, allowed: list[str]) -> None:
    if value not in allowed:
        raise PipelineError(f"{option} {value}: choose from {', '.join(allowed)}")


def main() -> None:
    """Entry point: an explained error is shown without a traceback and exits with 1."""
    try:
        app()
    except PipelineError as error:
        sys.exit(f"error: {error}")
