"""One command per stage, in the order of the pipeline.

A stage is imported only when its command is called, because torch and its relatives take seconds to import.  Stages
that compute on a GPU are imported after a GPU is claimed, since their libraries may start CUDA.
"""

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from gsm8k_grpo.commands.jobs import on_gpus
from gsm8k_grpo.commands.options import (
    RESULTS,
    Overrides,
    Part,
    exclusive,
    load,
    parse_overrides,
    require_choice,
    workflow_config,
)
from gsm8k_grpo.commands.provenance import noted, require_current
from gsm8k_grpo.runtime import gpus
from gsm8k_grpo.runtime.quick_imports import quick_imports

PANEL = "Stages, in the order of the pipeline"

app = typer.Typer()


@app.command(rich_help_panel=PANEL)
def configure(
    show: Annotated[
        bool,
        typer.Option("--print", help="Print it, each value with the file or option it comes from, and write nothing."),
    ] = False,
    overrides: Overrides = [],
) -> None:
    """Write the whole configuration, params.yaml over the recipe, into one file."""
    settings = load(overrides)
    if show:
        from gsm8k_grpo.config.origins import annotated

        typer.echo(annotated(settings, workflow_config(), parse_overrides(overrides), Path("params.yaml")))
        return
    from gsm8k_grpo.stages.configure.stage import configure as stage

    with exclusive("configure"):
        stage(RESULTS / "configure", settings)


@app.command(rich_help_panel=PANEL)
def download(part: Part = None, overrides: Overrides = []) -> None:
    """Get the problems: from the hub, from a local folder, or generated."""
    from gsm8k_grpo.stages.download.stage import download as splits
    from gsm8k_grpo.stages.download.stage import download_sets

    settings = load(overrides)
    with exclusive("download", part or ""):
        if part != "sets":
            with noted("download", settings):
                splits(RESULTS / "download", settings)
        if part != "splits":
            with noted("download_sets", settings):
                download_sets(RESULTS / "download" / "sets", settings.evaluate.sets, settings.seed)


@app.command(rich_help_panel=PANEL)
def extract(part: Part = None, overrides: Overrides = []) -> None:
    """Read the gold answers, build the prompts, cut a validation split, and look for test questions in train."""
    from gsm8k_grpo.stages.extract.sets import extract_sets
    from gsm8k_grpo.stages.extract.stage import extract as splits

    settings = load(overrides)
    with exclusive("extract", part or ""):
        if part != "sets":
            with noted("extract", settings):
                splits(RESULTS / "download", RESULTS / "extract", settings.extract, settings.seed)
        if part != "splits":
            with noted("extract_sets", settings):
                extract_sets(RESULTS / "download", RESULTS / "extract", settings)


@app.command(rich_help_panel=PANEL)
def base(overrides: Overrides = []) -> None:
    """Record the model that training starts from; with model: scratch, make and pretrain it."""
    settings = load(overrides)
    pretrains = settings.model == "scratch"
    with exclusive("base"), gpus.claimed() if pretrains else nullcontext(), noted("base", settings):
        with quick_imports():
            from gsm8k_grpo.stages.base.stage import base as stage

        stage(RESULTS / "extract", RESULTS / "base", settings)


@app.command(rich_help_panel=PANEL)
def train(
    variant: Annotated[
        str,
        typer.Option(help="A variant of the configuration, such as short or full; short_s43 is short with seed 43."),
    ],
    overrides: Overrides = [],
) -> None:
    """Train one variant by its method: GRPO, RLOO, online DPO, PPO or supervised fine-tuning."""
    settings = load(overrides)
    require_choice("--variant", variant, [*settings.variants, *settings.further_runs])
    require_current("train", settings, variant)
    run = settings.of_run(variant)

    def work() -> None:
        if run.backend == "unsloth" and run.traits(variant).learns_from_rewards:
            from gsm8k_grpo.stages.train.grpo import unsloth_backend  # noqa: F401  before the libraries that it rewrites
        with quick_imports():
            from gsm8k_grpo.stages.train.stage import train as stage

        stage(variant, RESULTS / "extract", RESULTS / "base", RESULTS / "train" / variant, run)

    on_gpus("train", variant, settings, run.gpus_of(variant), work)


@app.command(rich_help_panel=PANEL)
def evaluate(
    model: Annotated[str, typer.Option(help="base, a variant, or a kept checkpoint such as short@100.")],
    overrides: Overrides = [],
) -> None:
    """Evaluate one model on the test split, further sets and probes, and its kept checkpoints on validation."""
    settings = load(overrides)
    require_choice("--model", model, settings.model_names())
    require_current("evaluate", settings, model)
    target, run = RESULTS / "evaluate" / model, settings.of_run(model)

    def work() -> None:
        with quick_imports():
            from gsm8k_grpo.stages.evaluate.stage import evaluate as stage

        stage(model, RESULTS / "extract", RESULTS / "base", RESULTS / "train", target, run)

    on_gpus("evaluate", model, settings, run.gpus, work)


@app.command(rich_help_panel=PANEL)
def compare(overrides: Overrides = []) -> None:
    """Compare every pair of models on the same questions, and each variant's runs with several seeds."""
    from gsm8k_grpo.stages.compare.stage import compare as stage

    settings = load(overrides)
    require_current("compare", settings)
    with exclusive("compare"), noted("compare", settings):
        stage(RESULTS / "evaluate", settings.runs, RESULTS / "compare", settings.compare, settings.seed)


@app.command(rich_help_panel=PANEL)
def card(
    variant: Annotated[str, typer.Option(help="A variant that is evaluated and compared.")],
    overrides: Overrides = [],
) -> None:
    """Write a variant's model card next to its weights: results, data, limitations, how to load it."""
    settings = load(overrides)
    require_choice("--variant", variant, settings.variants)
    from gsm8k_grpo.stages.card.stage import card as stage

    require_current("card", settings, variant)
    with exclusive("card", variant), noted("card", settings, variant):
        stage(variant, RESULTS, RESULTS / "train" / variant / "README.md", settings)


@app.command(rich_help_panel=PANEL)
def report(overrides: Overrides = []) -> None:
    """Write the report, results/report/report.html, and its figures."""
    from gsm8k_grpo.stages.report.stage import report as stage

    settings = load(overrides)
    require_current("report", settings)
    with exclusive("report"), noted("report", settings):
        stage(RESULTS, RESULTS / "report", settings)
