"""`gsm8k-grpo checkpoints`: which training runs left checkpoints, and which of these the configuration resumes from."""

from pathlib import Path

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.models import trained
from gsm8k_grpo.stages.train import run_folders
from gsm8k_grpo.stages.train.run_folders import OLD_FOLDER, Run


def manage_checkpoints(results: Path, params: Params, remove: list[str], remove_old: bool) -> list[str]:
    """List every run that has a folder, or remove some; returns the lines to print.

    Args:
        remove: names of folders to remove.
        remove_old: remove every folder that the configuration does not resume from.

    Raises:
        PipelineError: where `remove` names no run, or a run that a process is working on, or where the results that
            decide which runs resume are missing.
    """
    runs = run_folders.runs()
    resumed = _resumed(results, params)
    if not (remove or remove_old):
        return [_line(run, resumed) for run in runs] or ["there are no checkpoints"]
    removable = _named(runs, remove)
    if remove_old:
        removable += [run for run in _not_resumed(runs, resumed, results) if run not in removable]
    for run in removable:
        run_folders.remove(run)
    return [f"removed {run.folder} ({_gib(run)})" for run in removable] or ["nothing to remove"]


def _named(runs: list[Run], names: list[str]) -> list[Run]:
    known = [run.folder.name for run in runs]
    for name in names:
        if name not in known:
            raise PipelineError(f"--remove {name}: choose from {', '.join(known) or 'none, there are no checkpoints'}")
    return [run for run in runs if run.folder.name in names]


def _not_resumed(runs: list[Run], resumed: set[Path] | None, results: Path) -> list[Run]:
    if resumed is None:
        raise PipelineError(
            f"--remove-old: which runs resume depends on {results / 'extract'}, {results / 'base'} and the "
            "weights that variants start from, some of which are missing; run these stages first, or name the folders "
            "with --remove"
        )
    return [run for run in runs if run.folder not in resumed]


def _resumed(results: Path, params: Params) -> set[Path] | None:
    """The folders that the present configuration, data and code resume from.

    None where data, base or the weights that a variant starts from are missing.
    """
    data, base = results / "extract" / "train.jsonl", results / "base" / "base.json"
    runs = {run: params.of_run(run) for run in [*params.variants, *params.further_runs]}
    started = {run: trained.place(start, results / "train") for run in runs if (start := runs[run].variants[run].start)}
    if not all(path.exists() for path in (data, base, *started.values())):
        return None
    return {run_folders.folder(run, own, data, base, started.get(run)) for run, own in runs.items()}


def _line(run: Run, resumed: set[Path] | None) -> str:
    if run.folder.parent == OLD_FOLDER:
        use = "not resumed: from an earlier version"
    elif resumed is None:
        use = "unknown whether it resumes: results of extract or base, or the weights of a start, are missing"
    elif run.folder in resumed:
        use = "resumed by the present configuration"
    else:
        use = "not resumed: other settings, data or code"
    return f"{run.folder}  step {run.step} of {run.steps}  {_gib(run)}  {use}"


def _gib(run: Run) -> str:
    return f"{run.size / 2**30:.2f} GiB"
