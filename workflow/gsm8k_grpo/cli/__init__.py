"""The command line: `stages` and `commands` define the commands, and `app` runs the one that is called."""

from gsm8k_grpo.cli.app import main

__all__ = ["main"]
