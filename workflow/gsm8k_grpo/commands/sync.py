"""Bring Snakemake up to what DVC has put into results/, so that it runs nothing again.

After `dvc pull`, `dvc checkout` or a `dvc repro` that restored results, times of change are in no order and
Snakemake's own records tell of another run.  `snakemake --touch` mends both, but it would also hide a result that is
stale, and through a link it changes or deletes files of DVC's cache.  Both are refused.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gsm8k_grpo.files import PipelineError

NAMED = 3  # linked files in the error


def sync(results: Path) -> str:
    """Touch what stands under `results` in Snakemake's order, and say so.

    Raises:
        PipelineError: where a file is a link, or where DVC finds something changed.
    """
    links = linked(results)
    if links:
        more = f" and {len(links) - NAMED} more" if len(links) > NAMED else ""
        raise PipelineError(
            f"{', '.join(map(str, links[:NAMED]))}{more}: linked to DVC's cache, which this would damage; have copies "
            "with `dvc config --local cache.type reflink,copy` and `dvc checkout --relink`"
        )
    changes = list(changed(json.loads(_run("dvc", "status", "--json"))))
    if changes:
        raise PipelineError(
            "\n  ".join([f"{results} is not what dvc.lock says, and this would hide it:", *changes])
            + "\n`dvc pull` or `dvc checkout` takes what dvc.lock says, `dvc repro` makes what is stale, "
            "`dvc commit --force` declares what is here right"
        )
    _run("snakemake", "--cores", "1", "--touch", "report")
    return f"{results} is what dvc.lock says, and Snakemake knows it"


def linked(folder: Path) -> list[Path]:
    """The files that are symbolic links or share their content with another name."""
    return [
        path for path in sorted(folder.rglob("*")) if path.is_symlink() or (path.is_file() and path.stat().st_nlink > 1)
    ]


def changed(status: Mapping[str, list[Any]]) -> Iterator[str]:
    """What `dvc status --json` tells, a line for a stage and a kind of change."""
    for stage, changes in status.items():
        for change in changes:
            if isinstance(change, str):
                yield f"{stage}: {change}"
                continue
            for kind, found in change.items():
                yield f"{stage}: {kind}: " + ", ".join(f"{path} {_state(state)}" for path, state in found.items())


def _state(state: str | Mapping[str, str]) -> str:
    """`modified` of a file, `(seed modified)` of a file's parameters."""
    if isinstance(state, str):
        return state
    return "(" + ", ".join(f"{key} {how}" for key, how in state.items()) + ")"


def _run(tool: str, *arguments: str) -> str:
    """The output of a tool of this environment; its error is the error."""
    done = subprocess.run([sys.executable, "-m", tool, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise PipelineError(f"{tool} {' '.join(arguments)}:\n{done.stderr.strip()}")
    return done.stdout
