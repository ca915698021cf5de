"""Stage `configure`: the whole configuration in one file.

A key may stand in params.yaml or in the recipe; here every key stands once, checked, with the value that counts.
DVC compares these values key by key to tell which stages a change concerns.  Writes `results/configure/params.yaml`.
"""

from pathlib import Path

import yaml

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.files import write_text


def configure(target: Path, params: Params) -> None:
    """Run the stage: `target` is the folder written."""
    write_text(target / "params.yaml", yaml.safe_dump(params.resolved(), sort_keys=False, allow_unicode=True))
