"""The weights that a variant's training starts from: base, or what the training of another variant has written."""

from pathlib import Path

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.files import PipelineError, read_json
from gsm8k_grpo.models import loading, trained


def folder(variant: str, results: Path, params: Params) -> Path | None:
    """The folder of the start's weights; None for a variant that starts from base.

    Args:
        results: the folder that holds the results of all variants.

    Raises:
        PipelineError: if the folder does not exist; the message names the command that writes it.
    """
    start = params.variants[variant].start
    return trained.folder(start, results) if start else None


def source(start: Path | None, base: Path, params: Params) -> loading.Source:
    """Where to find the weights that training starts from.

    Args:
        start: the folder of these weights, as `folder` returns it.
        base: the result folder of the stage base.

    Raises:
        PipelineError: if they are an adapter although all weights are to be trained, or the other way round, which
            happens if `lora` has changed since the start was trained.
    """
    found = loading.source(read_json(base / "base.json")["model"], start)
    if start is None or (found.adapter is None) == (params.lora is None):
        return found
    held = "all weights" if params.lora else "an adapter"
    wanted = "lora trains an adapter" if params.lora else "lora = null trains all weights"
    raise PipelineError(f"{start}: holds {held}, and {wanted}; train the start again with the present lora")
