"""Which keys of the configuration each rule looks up.

They are those of the `lookup` lines of `workflow/rules/` and of `params` in dvc.yaml, which a test compares.  A result
that was made with other values of these keys is out of date.
"""

from collections.abc import Mapping
from functools import reduce
from typing import Any

# `{name}` is the variant of the job.
KEYS: dict[str, tuple[str, ...]] = {
    "download": ("source", "path", "download", "seed"),
    "download_sets": ("evaluate.sets", "seed"),
    "extract": ("extract", "seed"),
    "extract_sets": ("evaluate.sets", "evaluate.overlap_words", "extract"),
    "base": ("model", "base", "extract.answer_form", "threads", "seed"),
    "train": ("training.{name}",),
    "evaluate": (
        "evaluate", "keep_checkpoints", "extract", "rewards", "compare.resamples", "chat_template_kwargs", "engine",
        "precision", "quantization", "gpus", "vllm", "graphs", "vram_gib", "threads", "seed",
    ),
    "compare": ("variants", "compare", "seeds", "seed"),
    "card": (
        "variants.{name}", "recipe", "seed", "source", "model", "chat_template_kwargs", "lora", "precision",
        "quantization", "extract", "rewards", "evaluate.max_completion_length", "download.generated.problems",
    ),
}  # fmt: skip


def values(rule: str, name: str, configuration: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that a rule looks up, each with its value; `configure` and `report` look up every key.

    Args:
        name: the variant of a training or a card.
        configuration: every key with its value, see `resolved`.
    """
    if rule not in KEYS:
        return dict(configuration)
    keys = [key.format(name=name) for key in KEYS[rule]]
    return {key: reduce(lambda section, part: section[part], key.split("."), configuration) for key in keys}
