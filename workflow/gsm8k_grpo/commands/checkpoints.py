"""`gsm8k-grpo checkpoints`: which training runs left checkpoints, and which of these the configuration resumes from."""

from pathlib import Path

from gsm8k_grpo.config import layers, stage_keys
from gsm8k_grpo.config.errors import as_written
from gsm8k_grpo.config.params import Params
from gsm8k_grpo.config.resolved import resolved
from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.models import trained
from gsm8k_grpo.stages.train import run_folders
from gsm8k_grpo.stages.train.run_folders import OLD_FOLDER, Run

# The top-level keys on which the training data and the base model depend.
KEYS_OF_INPUTS = dict.fromkeys(
    key.partition(".")[0] for rule in ("download", "extract", "base") for key in stage_keys.KEYS[rule]
)


def manage_checkpoints(results: Path, params: Params, remove: list[str], remove_old: bool) -> list[str]:
    """List every run that has a folder, or remove some; returns the lines to print.

    Args:
        remove: names of folders to remove.
        remove_old: remove every folder that the configuration does not resume from.

    Raises:
        PipelineError: if `remove` names no run, a run that a process is working on, or a folder that holds something
            else, or if the results that decide which runs resume are missing or belong to another configuration.
    """
    runs = run_folders.runs()
    resumed = _resumed(results, params)
    if not (remove or remove_old):
        return [_line(run, resumed) for run in runs] or ["there are no checkpoints"]
    removable = _named(runs, remove)
    left: list[str] = []
    if remove_old:
        old = [run for run in _not_resumed(runs, resumed, results, params) if run not in removable]
        removable += [run for run in old if not run.foreign]
        left = [f"left {run.folder}, which also holds {', '.join(run.foreign)}" for run in old if run.foreign]
    for run in removable:
        run_folders.remove(run)
    return [f"removed {run.folder} ({_gib(run)})" for run in removable] + left or ["nothing to remove"]


def _named(runs: list[Run], names: list[str]) -> list[Run]:
    known = [run.folder.name for run in runs]
    for name in names:
        if name not in known:
            raise PipelineError(f"--remove {name}: choose from {', '.join(known) or 'none, there are no checkpoints'}")
    return [run for run in runs if run.folder.name in names]


def _not_resumed(runs: list[Run], resumed: set[Path] | None, results: Path, params: Params) -> list[Run]:
    if resumed is None:
        raise PipelineError(
            f"--remove-old: which runs resume depends on {results / 'extract'}, {results / 'base'} and the weights "
            f"that variants start from, which are {_unknown(results, params)}; run these stages first, or name the "
            "folders with --remove"
        )
    return [run for run in runs if run.folder not in resumed]


def _resumed(results: Path, params: Params) -> set[Path] | None:
    """The folders that the present configuration, data and code resume from.

    None if data, base or the weights that a variant starts from are not known.
    """
    if _unknown(results, params):
        return None
    (data, base), starts = _inputs(results), _starts(results, params)
    runs = [*params.variants, *params.further_runs]
    return {run_folders.folder(run, params.of_run(run), data, base, starts.get(run)) for run in runs}


def _inputs(results: Path) -> tuple[Path, Path]:
    return results / "extract" / "train.jsonl", results / "base" / "base.json"


def _starts(results: Path, params: Params) -> dict[str, Path]:
    """The folder of the weights that each run starts from, for the runs that do not start from base."""
    variants = {run: params.of_run(run).variants[run] for run in [*params.variants, *params.further_runs]}
    return {run: trained.place(variant.start, results / "train") for run, variant in variants.items() if variant.start}


def _unknown(results: Path, params: Params) -> str | None:
    """Why the data, base and weights of starts of the present configuration are not known; None if they are."""
    if not all(path.exists() for path in (*_inputs(results), *_starts(results, params).values())):
        return "missing"
    written = results / "configure" / "params.yaml"
    if not written.exists():  # the stages were run by hand
        return None
    made, present = layers.read(written), resolved(params)
    changed = [key for key in KEYS_OF_INPUTS if made.get(key) != present[key]]
    if not changed:
        return None
    return f"of another configuration ({changed[0]} was {as_written(made.get(changed[0]))})"


def _line(run: Run, resumed: set[Path] | None) -> str:
    if run.folder.parent == OLD_FOLDER:
        use = "not resumed: from an earlier version"
    elif resumed is None:
        use = (
            "unknown whether it resumes: data, base or the weights of a start are missing, or of another configuration"
        )
    elif run.folder in resumed:
        use = "resumed by the present configuration"
    else:
        use = "not resumed: other settings, data or code"
    also = f"; also holds {', '.join(run.foreign)}" if run.foreign else ""
    return f"{run.folder}  step {run.step} of {run.steps}  {_gib(run)}  {use}{also}"


def _gib(run: Run) -> str:
    return f"{run.size / 2**30:.2f} GiB"
