"""The command line: every stage by hand, in the order of the pipeline.  `gsm8k-grpo STAGE --help` explains."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from gsm8k_grpo.config import layers, params
from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.runtime import interrupts, locks, workspace

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
    """The configuration; `--set` goes over the workflow's `--config`."""
    return params.load(overrides=workflow_config() | options(overrides))


def workflow_config() -> dict[str, Any]:
    """The keys of Snakemake's `--config`, which the workflow hands on in the environment."""
    return json.loads(os.environ.get(layers.ENVIRONMENT, "{}"))


def options(overrides: list[str]) -> dict[str, Any]:
    """The keys of `--set`."""
    return dict(map(layers.parse_override, overrides))


@contextmanager
def alone(stage: str, model: str = "") -> Iterator[None]:
    """The place for a stage, where it runs once at a time; train and evaluate once for each model."""
    workspace.require_writable(RESULTS)
    with locks.held(f"{stage}-{model}" if model else stage):
        yield


@app.command()
def configure(
    show: Annotated[
        bool,
        typer.Option("--print", help="Only print it, each value with the file or option it comes from; write nothing."),
    ] = False,
    overrides: Overrides = [],
) -> None:
    """Write the whole configuration, params.yaml over the recipe, into one file."""
    settings = load(overrides)
    if show:
        from gsm8k_grpo.config.origins import annotated

        typer.echo(annotated(settings, workflow_config(), options(overrides), Path("params.yaml")))
        return
    from gsm8k_grpo.stages.configure.stage import configure as stage

    with alone("configure"):
        stage(RESULTS / "configure", settings)


@app.command()
def download(part: Part = None, overrides: Overrides = []) -> None:
    """Get the problems: from the hub, from a local folder, or generated."""
    from gsm8k_grpo.stages.download.stage import download as splits
    from gsm8k_grpo.stages.download.stage import download_sets

    settings = load(overrides)
    with alone("download", part or ""):
        if part != "sets":
            splits(RESULTS / "download", settings)
        if part != "splits":
            download_sets(RESULTS / "download" / "sets", settings.evaluate.sets, settings.seed)


@app.command()
def extract(part: Part = None, overrides: Overrides = []) -> None:
    """Normalise the gold answers, make the prompts, cut validation from train, look for test questions in it."""
    from gsm8k_grpo.stages.extract.sets import extract_sets
    from gsm8k_grpo.stages.extract.stage import extract as splits

    settings = load(overrides)
    with alone("extract", part or ""):
        if part != "sets":
            splits(RESULTS / "download", RESULTS / "extract", settings.extract, settings.seed)
        if part != "splits":
            extract_sets(RESULTS / "download", RESULTS / "extract", settings)


@app.command()
def base(overrides: Overrides = []) -> None:
    """Name the model that training starts from; with model: scratch, make and pretrain it."""
    from gsm8k_grpo.stages.base.stage import base as stage

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
    if settings.backend == "unsloth" and settings.traits(variant).learns_from_rewards:
        from gsm8k_grpo.stages.train.grpo import unsloth_backend  # noqa: F401  before all that it rewrites
    from gsm8k_grpo.stages.train.stage import train as stage

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
    from gsm8k_grpo.stages.evaluate.stage import evaluate as stage

    with alone("evaluate", model):
        stage(model, RESULTS / "extract", RESULTS / "base", RESULTS / "train", RESULTS / "evaluate" / model, settings)


@app.command()
def compare(overrides: Overrides = []) -> None:
    """Compare every pair of models on the same questions, and each variant's runs with several seeds."""
    from gsm8k_grpo.stages.compare.stage import compare as stage

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
    from gsm8k_grpo.stages.card.stage import card as stage

    with alone("card", variant):
        stage(variant, RESULTS, RESULTS / "train" / variant / "README.md", settings)


@app.command()
def report(overrides: Overrides = []) -> None:
    """Write report.html and its figures."""
    from gsm8k_grpo.stages.report.stage import report as stage

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

    from gsm8k_grpo.commands.ask import ask as answer

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
    from gsm8k_grpo.commands.export import FORMATS
    from gsm8k_grpo.commands.export import export as write

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
    from gsm8k_grpo.commands.doctor import doctor as examine

    found = examine(chosen, lambda name: load([*overrides, f"recipe={name}"]), hub)
    typer.echo(found.text())
    raise typer.Exit(0 if found.runs else 1)


@app.command()
def plan(
    gpu_gib: Annotated[
        float | None,
        typer.Option(metavar="GIB", help="Memory of the GPU.  The default is vram_gib, or the GPU of this machine."),
    ] = None,
    card: Annotated[float | None, typer.Option(hidden=True)] = None,
    overrides: Overrides = [],
) -> None:
    """Show the memory that training takes, part by part, whether it fits a GPU, and what to change if it does not."""
    if card is not None:
        raise PipelineError(f"--card is called --gpu-gib now: gsm8k-grpo plan --gpu-gib {card:g}")
    settings = load(["path=.", *overrides])  # the plan does not depend on the data, which may not be named yet
    from gsm8k_grpo.commands.plan import plan as memory_plan

    typer.echo(memory_plan(settings, gpu_gib))


@app.command()
def summary(overrides: Overrides = []) -> None:
    """Print the answer: the accuracies, whether they differ, and where the report is."""
    from gsm8k_grpo.commands.summary import summary as lines

    typer.echo(lines(RESULTS, load(overrides)))


@app.command()
def track(overrides: Overrides = []) -> None:
    """Send to MLflow what it misses of the results, after its store was away."""
    from gsm8k_grpo.commands.track import track as send

    typer.echo("\n".join(send(RESULTS, load(overrides))))


@app.command()
def view(overrides: Overrides = []) -> None:
    """Set up MLflow's columns and charts for comparing the runs, and print the address that opens them."""
    from gsm8k_grpo.commands.view import view as set_up

    typer.echo(set_up(load(overrides)))


@app.command()
def checkpoints(
    remove: Annotated[list[str], typer.Option(metavar="NAME", help="Remove a folder of the list.")] = [],
    remove_old: Annotated[
        bool,
        typer.Option("--remove-old", help="Remove every folder that the present configuration does not resume from."),
    ] = False,
    overrides: Overrides = [],
) -> None:
    """List the checkpoint folders of training runs, and remove those that are named."""
    from gsm8k_grpo.commands.checkpoints import manage_checkpoints

    typer.echo("\n".join(manage_checkpoints(RESULTS, load(overrides), remove, remove_old)))


@app.command(hidden=True, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def scratch() -> None:
    """The former name of `checkpoints`."""
    raise PipelineError("`gsm8k-grpo scratch` is called `gsm8k-grpo checkpoints` now")


@app.command()
def sync() -> None:
    """Have Snakemake take what DVC has put into results/ as up to date."""
    from gsm8k_grpo.commands.sync import sync as results_known

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
        reason = workspace.explain(error)
        if reason is None:
            raise
        sys.exit(f"error: {reason}")
