"""The command line: every stage by hand, in the order of the pipeline.  `gsm8k-grpo STAGE --help` explains."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

from gsm8k_grpo import interrupts, layers, locks, params, place
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


Part = Annotated[
    Literal["splits", "sets"] | None,
    typer.Option(help="Only the splits that training takes, or only the further test sets; without it both."),
]


def load(overrides: list[str]) -> params.Params:
    """The configuration: what the workflow was given with --config counts as if given with --set, before it."""
    given = json.loads(os.environ.get(layers.ENVIRONMENT, "{}"))
    return params.load(overrides=given | dict(map(layers.parse_override, overrides)))


@contextmanager
def alone(stage: str, model: str = "") -> Iterator[None]:
    """The place for a stage, where it runs once at a time; train and evaluate once for each model."""
    place.check(RESULTS)
    with locks.held(f"{stage}-{model}" if model else stage):
        yield


@app.command()
def configure(overrides: Overrides = []) -> None:
    """Write the whole configuration, params.yaml over the recipe, into one file."""
    from gsm8k_grpo.configure import configure as stage

    settings = load(overrides)
    with alone("configure"):
        stage(RESULTS / "configure", settings)


@app.command()
def download(part: Part = None, overrides: Overrides = []) -> None:
    """Get the problems: from the hub, from a local folder, or generated."""
    from gsm8k_grpo.download import download as splits
    from gsm8k_grpo.download import download_sets

    settings = load(overrides)
    with alone("download", part or ""):
        if part != "sets":
            splits(RESULTS / "download", settings)
        if part != "splits":
            download_sets(RESULTS / "download" / "sets", settings.evaluate.sets, settings.seed)


@app.command()
def extract(part: Part = None, overrides: Overrides = []) -> None:
    """Normalise the gold answers, make the prompts, cut validation from train, look for test questions in it."""
    from gsm8k_grpo.extract import extract as splits
    from gsm8k_grpo.sets import extract_sets

    settings = load(overrides)
    with alone("extract", part or ""):
        if part != "sets":
            splits(RESULTS / "download", RESULTS / "extract", settings.extract, settings.seed)
        if part != "splits":
            extract_sets(RESULTS / "download", RESULTS / "extract", settings)


@app.command()
def base(overrides: Overrides = []) -> None:
    """Name the model that training starts from; with model: scratch, make and pretrain it."""
    from gsm8k_grpo.base import base as stage

    settings = load(overrides)
    with alone("base"):
        stage(RESULTS / "extract", RESULTS / "base", settings)


@app.command()
def train(
    variant: Annotated[
        str, typer.Option(help="A variant of params.yaml, such as short or full; short_s43 is it with seed 43.")
    ],
    overrides: Overrides = [],
) -> None:
    """Train one variant with GRPO, or by supervised fine-tuning where its method is sft."""
    settings = load(overrides)
    _one_of("--variant", variant, [*settings.variants, *settings.further_runs])
    settings = settings.of_run(variant)
    if settings.backend == "unsloth" and settings.variant_method(variant) == "grpo":
        from gsm8k_grpo import unsloth_backend  # noqa: F401  before all that it rewrites
    from gsm8k_grpo.train import train as stage

    with alone("train", variant):
        stage(variant, RESULTS / "extract", RESULTS / "base", RESULTS / "train" / variant, settings)


@app.command()
def evaluate(
    model: Annotated[str, typer.Option(help="base, a variant, or a kept checkpoint such as short@100.")],
    overrides: Overrides = [],
) -> None:
    """Ask one model the whole test split and the probes, and the validation split at its kept steps."""
    settings = load(overrides)
    _one_of("--model", model, settings.model_names())
    settings = settings.of_run(model)
    from gsm8k_grpo.evaluate import evaluate as stage

    with alone("evaluate", model):
        stage(model, RESULTS / "extract", RESULTS / "base", RESULTS / "train", RESULTS / "evaluate" / model, settings)


@app.command()
def compare(overrides: Overrides = []) -> None:
    """Compare every pair of models on the same questions, and each variant's runs with several seeds."""
    from gsm8k_grpo.compare import compare as stage

    settings = load(overrides)
    with alone("compare"):
        stage(RESULTS / "evaluate", settings.runs, RESULTS / "compare", settings.compare, settings.seed)


@app.command()
def card(
    variant: Annotated[str, typer.Option(help="A variant that is evaluated and compared.")],
    overrides: Overrides = [],
) -> None:
    """Write a variant's model card beside its weights: figures, data, limits, how to load it."""
    settings = load(overrides)
    _one_of("--variant", variant, list(settings.variants))
    from gsm8k_grpo.card import card as stage

    with alone("card", variant):
        stage(variant, RESULTS, RESULTS / "train" / variant / "README.md", settings)


@app.command()
def report(overrides: Overrides = []) -> None:
    """Write report.html and its figures."""
    from gsm8k_grpo.report import report as stage

    settings = load(overrides)
    with alone("report"):
        stage(RESULTS, RESULTS / "report", settings)


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help='Such as "Which is bigger? 9.919 or 9.92?"')],
    overrides: Overrides = [],
) -> None:
    """Ask base and every trained variant a question, with the training prompt, and see the answers side by side."""
    settings = load(overrides)
    from rich.console import Console

    from gsm8k_grpo.ask import ask as answer

    answer(question, RESULTS, settings, Console())


@app.command()
def export(
    variant: Annotated[str, typer.Option(help="A variant that is trained.")],
    format: Annotated[str, typer.Option(help="merged, adapter, or gguf (by llama.cpp's converter).")],
    to: Annotated[Path, typer.Option(metavar="FOLDER", help="A folder that is empty or not there yet.")],
    overrides: Overrides = [],
) -> None:
    """Write a trained variant's model into a folder, for use outside of this project."""
    settings = load(overrides)
    from gsm8k_grpo.export import FORMATS
    from gsm8k_grpo.export import export as write

    _one_of("--variant", variant, list(settings.variants))
    _one_of("--format", format, list(FORMATS))
    typer.echo("\n".join(map(str, write(variant, format, RESULTS, to, settings))))


@app.command()
def doctor(
    hub: Annotated[bool, typer.Option("--hub", help="Also ask the hub for the recipe's model and data.")] = False,
    overrides: Overrides = [],
) -> None:
    """Tell what this machine can run, and why not the rest; the status is 1 where the chosen recipe can't run."""
    chosen = load(overrides).recipe
    from gsm8k_grpo.doctor import doctor as examine

    found = examine(chosen, lambda name: load([*overrides, f"recipe={name}"]), hub)
    typer.echo(found.text())
    raise typer.Exit(0 if found.runs else 1)


@app.command()
def plan(
    card: Annotated[
        float | None,
        typer.Option(metavar="GIB", help="Memory of a card; without it vram_gib, or the card that is here."),
    ] = None,
    overrides: Overrides = [],
) -> None:
    """Tell the memory that training takes, part by part, whether it fits a card, and what to change if not."""
    settings = load(["path=.", *overrides])  # what it is trained on does not matter here, and may not be named yet
    from gsm8k_grpo import fit, shapes

    size = fit.card(settings) if card is None else card
    typer.echo(fit.report(settings, shapes.of(settings), size))


@app.command()
def summary(overrides: Overrides = []) -> None:
    """Print the answer: the accuracies, whether they differ, and where the report is."""
    from gsm8k_grpo.summary import summary as lines

    typer.echo(lines(RESULTS, load(overrides)))


@app.command()
def track(overrides: Overrides = []) -> None:
    """Send to MLflow what it misses of the results, after its store was away."""
    from gsm8k_grpo.track import track as send

    typer.echo("\n".join(send(RESULTS, load(overrides))))


@app.command()
def view(overrides: Overrides = []) -> None:
    """Set up MLflow's columns and charts for comparing the runs, and print the address that opens them."""
    from gsm8k_grpo.view import view as set_up

    typer.echo(set_up(load(overrides)))


@app.command()
def scratch(
    remove: Annotated[list[str], typer.Option(metavar="NAME", help="Remove a folder of the list.")] = [],
    remove_old: Annotated[
        bool, typer.Option("--remove-old", help="Remove all but those of the present state.")
    ] = False,
    overrides: Overrides = [],
) -> None:
    """List the folders of training runs' checkpoints, and remove those that are named."""
    from gsm8k_grpo import scratch as folders

    typer.echo("\n".join(folders.scratch(RESULTS, load(overrides), remove, remove_old)))


@app.command()
def sync() -> None:
    """Have Snakemake take what DVC has put into results/ as up to date."""
    from gsm8k_grpo.sync import sync as results_known

    typer.echo(results_known(RESULTS))


def _one_of(option: str, value: str, allowed: list[str]) -> None:
    if value not in allowed:
        raise PipelineError(f"{option} {value}: choose from {', '.join(allowed)}")


def main() -> None:
    """Entry point: an explained error is shown without a traceback and exits with 1."""
    interrupts.install()
    try:
        app()
    except interrupts.Interrupted as signal:
        print(f"{signal}: stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(128 + signal.signum)
    except PipelineError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        reason = place.explain(error)
        if reason is None:
            raise
        sys.exit(f"error: {reason}")
