"""Stage `configure`: the whole configuration in one file.

Its values come from the files of the recipe, from params.yaml and from the command line; this file has every key once,
checked and with its final value.  DVC compares it key by key to tell which stages a change concerns.  Writes
`results/configure/params.yaml`.
"""

from pathlib import Path

from gsm8k_grpo.config import layers
from gsm8k_grpo.config.params import Params
from gsm8k_grpo.config.resolved import resolved
from gsm8k_grpo.files import write_text


def configure(target: Path, params: Params) -> None:
    """Run the stage: write the configuration into the folder `target`."""
    write_text(target / "params.yaml", layers.written(resolved(params), sort_keys=False))
