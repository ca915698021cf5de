"""The licences of the recipes' base models, as their pages on the hub say; they bind what is trained from them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Licence:
    """`identifier` is the hub's; where that is `other`, `name` and `link` say which it is."""

    identifier: str
    title: str
    name: str | None = None
    link: str | None = None


APACHE = Licence("apache-2.0", "Apache License 2.0")
MIT = Licence("mit", "MIT License")
UNKNOWN = Licence("unknown", "unknown to this project: look it up where the model comes from")
BY_MODEL = {
    "scratch": MIT,  # made here
    "Qwen/Qwen2.5-1.5B": APACHE,
    "Qwen/Qwen2.5-3B": Licence(
        "other",
        "Qwen Research License, for research and evaluation and not for commercial use",
        "qwen-research",
        "https://huggingface.co/Qwen/Qwen2.5-3B/blob/main/LICENSE",
    ),
    "Qwen/Qwen2.5-7B-Instruct": APACHE,
    "meta-llama/Llama-3.2-1B-Instruct": Licence("llama3.2", "Llama 3.2 Community License"),
    "unsloth/phi-4": MIT,
    "microsoft/phi-4": MIT,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B": MIT,
}


def of(model: str) -> Licence:
    """The licence of a model by its name; that of a folder, or of a model no recipe names, is unknown."""
    return BY_MODEL.get(model, UNKNOWN)
