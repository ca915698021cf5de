"""The error of a model that transformers can't load."""

from gsm8k_grpo.files import PipelineError, first_line
from gsm8k_grpo.models.refusals import no_folder


def not_loaded(name: str, error: Exception) -> PipelineError:
    """The error to raise from transformers' error; it names the model, the first line of that error, and the remedy."""
    return PipelineError(
        f"model = {name}: it could not be loaded ({first_line(error)})"
        f"{no_folder(name)}. Give a folder with safetensors and a tokenizer, or a model of the hub that this machine "
        "can reach."
    )
