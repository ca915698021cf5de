"""The licences of the recipes' base models, from their pages on the hub; they also bind the models trained here."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Licence:
    """A licence; `identifier` is the hub's, and if this is `other`, `name` and `link` say which licence it is."""

    identifier: str
    title: str
    name: str | None = None
    link: str | None = None


APACHE = Licence("apache-2.0", "Apache License 2.0")
MIT = Licence("mit", "MIT License")
UNKNOWN = Licence("unknown", "unknown to this project: look it up at the source of the model")
BY_MODEL = {
    "scratch": MIT,  # trained by this project
    "Qwen/Qwen2.5-1.5B": APACHE,
    "Qwen/Qwen2.5-3B": Licence(
        "other",
        "Qwen Research License, for research and evaluation and not for commercial use",
        "qwen-research",
        "https://huggingface.co/Qwen/Qwen2.5-3B/blob/main/LICENSE",
    ),
    "Qwen/Qwen2.5-7B-Instruct": APACHE,
    "HuggingFaceTB/SmolLM2-135M-Instruct": APACHE,
    "meta-llama/Llama-3.1-8B-Instruct": Licence("llama3.1", "Llama 3.1 Community License"),
    "meta-llama/Llama-3.2-1B-Instruct": Licence("llama3.2", "Llama 3.2 Community License"),
    "unsloth/phi-4": MIT,
    "microsoft/phi-4": MIT,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B": MIT,
}


def of(model: str) -> Licence:
    """The licence of a model by its name; `UNKNOWN` for a folder and for a model that no recipe names."""
    return BY_MODEL.get(model, UNKNOWN)
