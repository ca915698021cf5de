"""Where the results hold the weights of base, of trained variants and of their kept checkpoints."""

from pathlib import Path

from gsm8k_grpo.files import PipelineError, read_json
from gsm8k_grpo.models.loading import Source, source


def weights(model: str, base: Path, trained: Path) -> Source:
    """Where the weights of a model of `params.model_names()` are; `base` and `trained` are the folders of stages."""
    return source(read_json(base / "base.json")["model"], None if model == "base" else folder(model, trained))


def folder(model: str, trained: Path) -> Path:
    """The folder of a variant's final weights, or of a kept checkpoint such as `short@100`.

    Raises:
        PipelineError: if the folder does not exist.  The message names the command that writes it, or, if the variant's
            run ended before the kept step, the step after which it ended.
    """
    weights = place(model, trained)
    if weights.is_dir():
        return weights
    variant, _, step = model.partition("@")
    metrics = trained / variant / "metrics.json"
    steps = read_json(metrics)["steps"] if metrics.exists() else None
    if step and steps is not None and steps <= int(step):
        raise PipelineError(
            f"{weights}: no such folder; the run of {variant} ended after step {steps}, so name a kept step before it, "
            f"or {variant} for its final weights"
        )
    raise PipelineError(f"{weights}: no such folder; it is written by `gsm8k-grpo train --variant {variant}`")


def place(model: str, trained: Path) -> Path:
    """The path of the folder that `folder` returns, whether it exists or not."""
    variant, _, step = model.partition("@")
    return trained / variant / "checkpoints" / step if step else trained / variant / "model"
