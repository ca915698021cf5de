"""The configuration with everything that follows from it, which Snakemake and DVC look up and results record."""

from typing import Any

from gsm8k_grpo.config import starts
from gsm8k_grpo.config.params import Params

OF_EVERY_TRAINING: dict[str, Any] = {
    "seed": True, "threads": True, "extract": {"answers", "answer_form"}, "chat_template_kwargs": True, "backend": True,
    "engine": True, "precision": True, "quantization": True, "lora": True, "vram_gib": True,
}  # fmt: skip


def resolved(params: Params) -> dict[str, Any]:
    """Every key with its value, and the keys that follow from them.

    The runs with further seeds are among the `variants`, each with its `seed`.  `training` has what the training of
    each run depends on.
    """
    keys = params.model_dump()
    sections: dict[str, dict[str, Any]] = keys["variants"]
    for run, (variant, seed) in params.further_runs.items():
        sections[run] = sections[variant] | {"seed": seed, "start": params.of_run(run).variants[run].start}
    return keys | {"training": {run: training_keys(params, run) for run in sections}}


def training_keys(params: Params, run: str) -> dict[str, Any]:
    """What the training of a run depends on: the settings of its method, and those of its `start`.

    Settings of other methods are left out, so that a variant is not trained again when they change.
    """
    own = params.of_run(run)
    variant, traits = own.variants[run], own.traits(run)
    settings = {traits.section, *filter(None, [traits.own_section])}
    keys = own.model_dump(include=OF_EVERY_TRAINING | dict.fromkeys(settings, True))
    keys |= {
        "variants": {run: variant.model_dump()}, "method": own.variant_method(run), "gpus": own.gpus_of(run),
        "shard_weights": own.is_sharded(run), "keep_checkpoints": own.kept_steps(run),
    }  # fmt: skip
    if traits.learns_from_rewards:
        keys |= {"rewards": own.variant_rewards(run).model_dump()} | own.model_dump(include={"vllm", "graphs"})
    else:
        keys |= {"train": {"prompts": own.train.prompts}}
    if variant.start is not None:
        keys |= {"start": training_keys(params, starts.variant_of(variant.start))}
    return keys
