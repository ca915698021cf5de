"""The commands that are not stages; each calls the module of its name in the room `commands`.

That module is imported only when the command is called, because torch and its relatives take seconds to import.
"""

from pathlib import Path
from typing import Annotated

import typer

from gsm8k_grpo.commands.options import RESULTS, Overrides, load, require_choice
from gsm8k_grpo.commands.provenance import mention_outdated
from gsm8k_grpo.files import PipelineError

PANEL = "Other commands"

app = typer.Typer()


@app.command(rich_help_panel=PANEL)
def summary(overrides: Overrides = []) -> None:
    """Print the accuracies, whether they differ, and where the report is."""
    from gsm8k_grpo.commands.summary import summary as result_lines

    settings = load(overrides)
    mention_outdated("summary", settings)
    typer.echo(result_lines(RESULTS, settings))


@app.command(rich_help_panel=PANEL)
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


@app.command(rich_help_panel=PANEL)
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


@app.command(rich_help_panel=PANEL)
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


@app.command(rich_help_panel=PANEL)
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


@app.command(rich_help_panel=PANEL)
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


@app.command(rich_help_panel=PANEL)
def track(overrides: Overrides = []) -> None:
    """Send MLflow the results that it lacks, for example after its store was unavailable."""
    from gsm8k_grpo.commands.track import track as send

    typer.echo("\n".join(send(RESULTS, load(overrides))))


@app.command(rich_help_panel=PANEL)
def view(overrides: Overrides = []) -> None:
    """Set up MLflow's columns and charts for comparing the runs, and print the address that opens them."""
    from gsm8k_grpo.commands.view import view as set_up

    typer.echo(set_up(load(overrides)))


@app.command(rich_help_panel=PANEL)
def sync(
    commit: Annotated[
        bool, typer.Option("--commit", help="First record in dvc.lock the results that Snakemake made without DVC.")
    ] = False,
) -> None:
    """Make Snakemake take the results that DVC put into results/ as up to date."""
    from gsm8k_grpo.commands.sync import sync as accept_results

    typer.echo(accept_results(RESULTS, load([]), commit))


@app.command("set-aside", rich_help_panel=PANEL)
def set_aside(overrides: Overrides = []) -> None:
    """Move the results of variants that the configuration no longer has to results/former/; DVC runs this."""
    from gsm8k_grpo.commands.set_aside import set_aside as move

    for moved in move(RESULTS, load(overrides)):
        typer.echo(moved)
