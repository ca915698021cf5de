"""The application: every command under one name, and how it ends after an error or a signal."""

import gc
import sys

import typer

from gsm8k_grpo.cli import commands, stages
from gsm8k_grpo.files import PipelineError, visible
from gsm8k_grpo.runtime import interrupts, output, workspace

app = typer.Typer(
    help="Train small language models on GSM8K with GRPO, evaluate them, and report what training changed.  "
    "`snakemake --cores 1 report` runs all stages; the commands here run one at a time.  The configuration is "
    "params.yaml on top of the recipe that it names, and --set changes single keys.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(stages.app)  # --help shows the stages first
app.add_typer(commands.app)


def main() -> None:
    """The entry point.  After an explained error it shows no traceback and exits with 1; after a signal it exits with
    128 plus the signal's number.
    """
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
        gc.freeze()  # Python's last search for garbage would take 3 s for the libraries' million objects
