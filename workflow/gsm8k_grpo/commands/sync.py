"""`gsm8k-grpo sync`: make Snakemake accept the results that DVC put into `results/`, so that it runs nothing again.

After `dvc pull`, `dvc checkout`, or a `dvc repro` that restored results, the files' modification times are in no order
and Snakemake's records describe another run.  `snakemake --touch` corrects both, but it would also hide results that
are out of date, and change or delete files of DVC's cache through links.  In both cases this command refuses to run.

With `--commit` it first records the present results in dvc.lock, unless they were made with another configuration: DVC
would take them for results of the present one, and its run cache would return them from then on.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gsm8k_grpo.commands import provenance
from gsm8k_grpo.config.params import Params
from gsm8k_grpo.files import PipelineError

SHOWN_LINKS = 3


def sync(results: Path, params: Params, commit: bool = False) -> str:
    """Touch the files under `results` in Snakemake's order; returns a line that says so.

    Args:
        params: the configuration of params.yaml.
        commit: record the results in dvc.lock first.

    Raises:
        PipelineError: if a file is a link, DVC finds something changed, or a result was made with another
            configuration.
    """
    links = linked_files(results)
    if links:
        more = f" and {len(links) - SHOWN_LINKS} more" if len(links) > SHOWN_LINKS else ""
        raise PipelineError(
            f"{', '.join(map(str, links[:SHOWN_LINKS]))}{more}: linked to DVC's cache, which this command would "
            "damage; replace links by copies with `dvc config --local cache.type reflink,copy` and "
            "`dvc checkout --relink`"
        )
    if commit:
        _require_current(results, params)
        _run("dvc", "commit", "--force")
    changes = list(changed_stages(json.loads(_run("dvc", "status", "--json"))))
    if changes:
        raise PipelineError(
            "\n  ".join([f"{results} differs from dvc.lock, and this command would hide that:", *changes])
            + "\n`dvc pull` or `dvc checkout` restores the results of dvc.lock, `dvc repro` runs what is out of date, "
            "`gsm8k-grpo sync --commit` records the present results"
        )
    _require_current(results, params)
    _run("snakemake", "--cores", "1", "--touch", "--forceall", "report")
    return f"{results} agrees with dvc.lock, and Snakemake takes it as up to date"


def _require_current(results: Path, params: Params) -> None:
    outdated = provenance.outdated(params, results)
    if outdated:
        raise PipelineError(
            "\n  ".join(
                [
                    f"{results} holds results that are not those of params.yaml:",
                    *(f"{made.file}: {change}" for made, change in outdated.items()),
                ]
            )
            + "\n`dvc repro --force` or `snakemake --cores 1 report` makes them again"
        )


def linked_files(folder: Path) -> list[Path]:
    """The files that are symbolic links, or hard links that share their content with another name."""
    return [
        path for path in sorted(folder.rglob("*")) if path.is_symlink() or (path.is_file() and path.stat().st_nlink > 1)
    ]


def changed_stages(status: Mapping[str, list[Any]]) -> Iterator[str]:
    """What `dvc status --json` reports as changed, one line per stage and kind of change."""
    for stage, changes in status.items():
        for change in changes:
            if isinstance(change, str):
                yield f"{stage}: {change}"
                continue
            for kind, paths in change.items():
                yield f"{stage}: {kind}: " + ", ".join(f"{path} {_state(state)}" for path, state in paths.items())


def _state(state: str | Mapping[str, str]) -> str:
    """`modified` for a file, `(seed modified)` for the parameters in a file."""
    if isinstance(state, str):
        return state
    return "(" + ", ".join(f"{key} {change}" for key, change in state.items()) + ")"


def _run(tool: str, *arguments: str) -> str:
    """The output of a tool of this Python environment.

    Raises:
        PipelineError: if the tool fails; the message has what the tool wrote.
    """
    process = subprocess.run([sys.executable, "-m", tool, *arguments], capture_output=True, text=True, check=False)
    if process.returncode:
        raise PipelineError(f"{tool} {' '.join(arguments)}:\n{process.stderr.strip()}")
    return process.stdout
