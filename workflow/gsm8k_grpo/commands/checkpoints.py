"""`gsm8k-grpo checkpoints`: which training runs have left checkpoints, and which of these are still of use."""

from pathlib import Path

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.stages.train import checkpoints
from gsm8k_grpo.stages.train.checkpoints import Run


def manage_checkpoints(results: Path, params: Params, remove: list[str], remove_old: bool) -> list[str]:
    """Lines that list every run, or those that say what was removed.

    Raises:
        PipelineError: where `remove` names none of them, or one that a process is at work in.
    """
    runs = {run.folder.name: run for run in checkpoints.runs()}
    current = _current(results, params)
    for name in remove:
        if name not in runs:
            raise PipelineError(f"--remove {name}: choose from {', '.join(runs) or 'none, there are no checkpoints'}")
    if remove_old:
        remove = [name for name in runs if name not in current]
    if remove or remove_old:
        for name in remove:
            checkpoints.remove(runs[name])
        return [f"removed {runs[name].folder} ({_gib(runs[name])})" for name in remove] or ["nothing to remove"]
    return [_line(run, name in current) for name, run in runs.items()] or ["there are no checkpoints"]


def _current(results: Path, params: Params) -> set[str]:
    """Names of the folders that the runs of the present configuration, data and code go on from."""
    data, base = results / "extract" / "train.jsonl", results / "base" / "base.json"
    if not (data.exists() and base.exists()):
        return set()
    runs = [*params.variants, *params.further_runs]
    return {checkpoints.folder(run, params.of_run(run), data, base).name for run in runs}


def _line(run: Run, current: bool) -> str:
    use = "of the present state" if current else "of other settings, data or code"
    return f"{run.folder}  step {run.step} of {run.steps}  {_gib(run)}  {use}"


def _gib(run: Run) -> str:
    return f"{run.size / 2**30:.2f} GiB"
