"""`gsm8k-grpo set-aside`: move the results of former variants out of the folders that DVC compares as a whole.

The stages `compare` and `report` depend on every variant.  DVC can only express that as a dependency on the folders
`results/train` and `results/evaluate`.  Results of a former variant in these folders would count, so a clone, which
lacks them, would be out of date.  Snakemake tracks single files, so it needs no such step.
"""

import shutil
from pathlib import Path

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.runtime import locks

FORMER = "former"


def set_aside(results: Path, params: Params) -> list[str]:
    """Move the folders that belong to no present model to `results/former/`, in place of earlier ones.

    Returns:
        A line for each folder.

    Raises:
        PipelineError: if a pipeline is running in this folder.
    """
    present = set(params.model_names())
    with locks.held("pipeline"):
        # A kept checkpoint, such as short@100, is no dependency, see .dvcignore.
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
