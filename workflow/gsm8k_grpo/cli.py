"""The command line: one command per stage, in the order of the pipeline, and then the other commands.

Commands import what they run only when they are called, because torch and its relatives take seconds to import.
Stages that compute on a GPU are imported after a GPU is claimed, since their libraries may start CUDA.
"""

import gc
import sys
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
from gsm8k_grpo.commands.provenance import mention_outdated, noted, require_current
from gsm8k_grpo.files import PipelineError, visible
from gsm8k_grpo.runtime import gpus, interrupts, output, workspace
from gsm8k_grpo.runtime.quick_imports import quick_imports

STAGES, COMMANDS = "Stages, in the order of the pipeline", "Other commands"

app = typer.Typer(
    help="Train small language models on GSM8K with GRPO, evaluate them, and report what training changed.  "
    "`snakemake --cores 1 report` runs all stages; the commands here run one at a time.  The configuration is "
    "params.yaml on top of the recipe that it names, and --set changes single keys.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.command(rich_help_panel=STAGES)
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


@app.command(rich_help_panel=STAGES)
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


@app.command(rich_help_panel=STAGES)
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


@app.command(rich_help_panel=STAGES)
def base(overrides: Overrides = []) -> None:
    """Record the model that training starts from; with model: scratch, make and pretrain it."""
    settings = load(overrides)
    pretrains = settings.model == "scratch"
    with exclusive("base"), gpus.claimed() if pretrains else nullcontext(), noted("base", settings):
        with quick_imports():
            from gsm8k_grpo.stages.base.stage import base as stage

        stage(RESULTS / "extract", RESULTS / "base", settings)


@app.command(rich_help_panel=STAGES)
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


@app.command(rich_help_panel=STAGES)
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


@app.command(rich_help_panel=STAGES)
def compare(overrides: Overrides = []) -> None:
    """Compare every pair of models on the same questions, and each variant's runs with several seeds."""
    from gsm8k_grpo.stages.compare.stage import compare as stage

    settings = load(overrides)
    require_current("compare", settings)
    with exclusive("compare"), noted("compare", settings):
        stage(RESULTS / "evaluate", settings.runs, RESULTS / "compare", settings.compare, settings.seed)


@app.command(rich_help_panel=STAGES)
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


@app.command(rich_help_panel=STAGES)
def report(overrides: Overrides = []) -> None:
    """Write the report, results/report/report.html, and its figures."""
    from gsm8k_grpo.stages.report.stage import report as stage

    settings = load(overrides)
    require_current("report", settings)
    with exclusive("report"), noted("report", settings):
        stage(RESULTS, RESULTS / "report", settings)


@app.command(rich_help_panel=COMMANDS)
def summary(overrides: Overrides = []) -> None:
    """Print the accuracies, whether they differ, and where the report is."""
    from gsm8k_grpo.commands.summary import summary as result_lines

    settings = load(overrides)
    mention_outdated("summary", settings)
    typer.echo(result_lines(RESULTS, settings))


@app.command(rich_help_panel=COMMANDS)
def ask(
    question: Annotated[str, typer.Argument(help='Such as "Which is bigger? 9.919 or 9.92?"')],
    overrides: Overrides = [],
) -> None:
    """Ask base and every trained variant a question with the training prompt; the answers appear side by side."""
    settings = load(overrides)
    from rich.console import Console

    from gsm8k_grpo.commands.ask import ask as show_answers

    mention_outdated("ask", settings)
    show_answers(question, RESULTS, settings, Console())


@app.command(rich_help_panel=COMMANDS)
def export(
    variant: Annotated[str, typer.Option(help="A variant that is trained.")],
    format: Annotated[str, typer.Option(help="merged, adapter, or gguf, which needs llama.cpp's converter.")],
    to: Annotated[Path, typer.Option(metavar="FOLDER", help="An empty folder, or one that does not exist yet.")],
    overrides: Overrides = [],
) -> None:
    """Write a trained variant into a folder, for use outside this project."""
    settings = load(overrides)
    from gsm8k_grpo.commands.export import FORMATS
    from gsm8k_grpo.commands.export import export as write

    require_choice("--variant", variant, settings.variants)
    mention_outdated("export", settings, variant)
    files = write(variant, require_choice("--format", format, FORMATS), RESULTS, to, settings)
    typer.echo("\n".join(map(str, files)))


@app.command(rich_help_panel=COMMANDS)
def doctor(
    hub: Annotated[
        bool, typer.Option("--hub", help="Also check that the hub has the recipe's model and data.")
    ] = False,
    overrides: Overrides = [],
) -> None:
    """Show what this machine has and which recipes it can run; exits with 1 if the chosen recipe can't run."""
    chosen = load(overrides).recipe
    from gsm8k_grpo.commands.doctor import doctor as examine

    examination = examine(chosen, lambda name: load([*overrides, f"recipe={name}"]), hub)
    typer.echo(examination.text())
    raise typer.Exit(0 if examination.runs else 1)


@app.command(rich_help_panel=COMMANDS)
def plan(
    gpu_gib: Annotated[
        float | None,
        typer.Option(metavar="GIB", help="GPU memory.  The default is vram_gib, or the memory of this machine's GPU."),
    ] = None,
    gpus: Annotated[
        int | None, typer.Option(metavar="N", help="GPUs that train together.  The default is gpus.")
    ] = None,
    card: Annotated[float | None, typer.Option(hidden=True)] = None,
    overrides: Overrides = [],
) -> None:
    """Show the memory that training needs, part by part, whether it fits a GPU, and what to change if it does not."""
    if card is not None:
        raise PipelineError(f"--card is called --gpu-gib now: gsm8k-grpo plan --gpu-gib {card:g}")
    together = [f"gpus={gpus}"] if gpus else []
    settings = load(["path=.", *overrides, *together])  # the plan does not depend on the data, which may not be set yet
    from gsm8k_grpo.commands.plan import plan as memory_plan

    typer.echo(memory_plan(settings, gpu_gib))


@app.command(rich_help_panel=COMMANDS)
def checkpoints(
    remove: Annotated[list[str], typer.Option(metavar="NAME", help="Remove a folder of the list; repeatable.")] = [],
    remove_old: Annotated[
        bool,
        typer.Option("--remove-old", help="Remove every folder that the present configuration does not resume from."),
    ] = False,
    overrides: Overrides = [],
) -> None:
    """List the checkpoints that training runs left, with step, size and whether training resumes from them."""
    from gsm8k_grpo.commands.checkpoints import manage_checkpoints

    typer.echo("\n".join(manage_checkpoints(RESULTS, load(overrides), remove, remove_old)))


@app.command(hidden=True, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def scratch() -> None:
    """The former name of `checkpoints`."""
    raise PipelineError("`gsm8k-grpo scratch` is called `gsm8k-grpo checkpoints` now")


@app.command(rich_help_panel=COMMANDS)
def track(overrides: Overrides = []) -> None:
    """Send MLflow the results that it lacks, for example after its store was unavailable."""
    from gsm8k_grpo.commands.track import track as send

    typer.echo("\n".join(send(RESULTS, load(overrides))))


@app.command(rich_help_panel=COMMANDS)
def view(overrides: Overrides = []) -> None:
    """Set up MLflow's columns and charts for comparing the runs, and print the address that opens them."""
    from gsm8k_grpo.commands.view import view as set_up

    typer.echo(set_up(load(overrides)))


@app.command(rich_help_panel=COMMANDS)
def sync(
    commit: Annotated[
        bool, typer.Option("--commit", help="First record in dvc.lock the results that Snakemake made without DVC.")
    ] = False,
) -> None:
    """Make Snakemake take the results that DVC put into results/ as up to date."""
    from gsm8k_grpo.commands.sync import sync as accept_results

    typer.echo(accept_results(RESULTS, load([]), commit))


@app.command("set-aside", rich_help_panel=COMMANDS)
def set_aside(overrides: Overrides = []) -> None:
    """Move the results of variants that the configuration no longer has to results/former/; DVC runs this."""
    from gsm8k_grpo.commands.set_aside import set_aside as move

    for moved in move(RESULTS, load(overrides)):
        typer.echo(moved)


def main() -> None:
    """Entry point.  Shows an explained error without a traceback and exits with 1, or with 128 plus a signal."""
    output.endure_lost_readers()
    output.filter_tracebacks()
    interrupts.install()
    try:
        workspace.require_own_code()
        app()
    except interrupts.Interrupted as signal:
        print(f"{signal}: stopped; repeat the command to continue", file=sys.stderr)
        sys.exit(128 + signal.signum)
    except PipelineError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        reason = workspace.explain(error)
        if reason is None:
            raise
        sys.exit(f"error: {visible(reason)}")
    finally:
        gc.freeze()  # else Python looks for garbage among the million objects of the libraries as it ends, for 3 s


if __name__ == "__main__":
    main()
