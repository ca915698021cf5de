"""`gsm8k-grpo set-aside`: move the results of former variants out of the folders that DVC compares as a whole.

The stages `compare` and `report` depend on every variant.  DVC can only express that as a dependency on the folders
`results/train` and `results/evaluate`.  What a former variant left there would count, so a clone, which lacks it, would
be out of date.  Snakemake knows the single files, so it needs no such step.
"""

import shutil
from pathlib import Path

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.runtime import locks

FORMER = "former"


def set_aside(results: Path, params: Params) -> list[str]:
    """Move the folders of no present model to `results/former/`, in place of earlier ones; returns a line for each.

    Raises:
        PipelineError: where a pipeline is running in this folder.
    """
    present = set(params.model_names())
    with locks.held("pipeline"):
        # A kept checkpoint such as short@100 is no dependency: .dvcignore.
        former = [
            folder
            for stage in ("train", "evaluate")
            for folder in sorted((results / stage).glob("[!.]*"))
            if folder.is_dir() and folder.name not in present and "@" not in folder.name
        ]
        return [_move(folder, results / FORMER / folder.parent.name / folder.name) for folder in former]


def _move(folder: Path, place: Path) -> str:
    shutil.rmtree(place, ignore_errors=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    folder.rename(place)
    return f"{folder}: no variant of the configuration; moved to {place}"
