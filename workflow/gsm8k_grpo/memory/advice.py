"""Whether a training run fits a GPU, and what to change if it does not: compares the plan with the GPU's memory."""

import json
from typing import Any

import torch
from pydantic import ValidationError

from gsm8k_grpo.config import layers
from gsm8k_grpo.config.methods import METHODS
from gsm8k_grpo.config.params import Params
from gsm8k_grpo.config.sections import Method, Train
from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.memory import shapes
from gsm8k_grpo.memory.parts import GIB
from gsm8k_grpo.memory.plan import plan
from gsm8k_grpo.memory.shapes import Shape


def gpu_gib(params: Params) -> float | None:
    """The GiB that the run may take: `vram_gib` or the GPU's memory, whichever is less; None if there is neither."""
    total = torch.cuda.get_device_properties(0).total_memory / GIB if torch.cuda.is_available() else None
    return min((size for size in (params.vram_gib, total) if size is not None), default=None)


def require_fit(params: Params, method: Method, gpus: int = 1) -> None:
    """Require that training by a method fits each GPU; requires nothing if there is neither a GPU nor `vram_gib`.

    Raises:
        PipelineError: if it does not fit; the message has the memory plan and what to change.
    """
    size = gpu_gib(params)
    if size is None:
        return
    shape = shapes.shape_of(params)
    params = params.model_copy(update={"method": method, "gpus": gpus})
    if plan(params, shape).gib > size:
        raise PipelineError(f"the GPU is too small for this training:\n{report(params, shape, size)}")


def report(params: Params, shape: Shape, size: float | None) -> str:
    """The memory plan of the recipe's method, whether it fits `size` GiB, and what to change if it does not."""
    planned = plan(params, shape)
    each = f" on each of {params.gpus} GPUs" if params.gpus > 1 else ""
    head = f"recipe {params.recipe}, model {params.model}{'' if size is None else f', {size:g} GiB{each}'}"
    if size is None:
        verdict = "To see whether it fits, give the memory of a GPU (vram_gib or --gpu-gib); this machine has no GPU."
    elif planned.gib <= size:
        verdict = f"It fits; {size - planned.gib:.2f} GiB remain free{each}."
    else:
        verdict = f"It does not fit: {planned.gib - size:.2f} GiB are missing{each}.\n{_advice(params, shape, size)}"
    return f"{head}\n\n{planned.table()}\n\n{verdict}"


def _advice(params: Params, shape: Shape, size: float) -> str:
    """Changes that save memory, the cheapest ones first, until training fits."""
    lines = ["Change in this order; after each line the memory that training then takes:"]
    learns_from_rewards = METHODS[params.method].learns_from_rewards
    for change in _changes(params, shape) if learns_from_rewards else _supervised_changes(params, shape):
        changed = _apply(params, change)
        if changed is None or plan(changed, shape).gib >= plan(params, shape).gib:
            continue
        params = changed
        settings = " ".join(f"--set '{key}={json.dumps(value)}'" for key, value in change.items())
        lines.append(f"  {settings}: {plan(params, shape).gib:.2f} GiB")
        if plan(params, shape).gib <= size:
            return "\n".join(lines)
    return "\n".join([*lines, "It still does not fit: choose a smaller model or a larger GPU."])


def _changes(params: Params, shape: Shape) -> list[dict[str, Any]]:
    """Changes for methods that sample completions, as values by key; a change that does not apply is empty."""
    train = params.train
    return [
        _shards(params, "train"),
        {"train.optim": "paged_adamw_8bit"},
        {"train.share_prompts": True},
        {"train.cuda_graphs": False},
        {"vllm.sleep": True} if params.engine == "vllm" else {},
        {"train.gradient_checkpointing": True},
        _one_group_per_batch(train) if train.per_device_train_batch_size > train.num_generations else {},
        _smaller_cache(params),
        {"train.beta": 0.0},
        _adapters(params, shape),
        _unsloth(params),
        {"quantization": "4bit"},
        {"engine": "transformers", "train.old_log_probs": "computed", "train.compile": False},
        {"train.max_completion_length": train.max_completion_length // 2},
    ]


def _supervised_changes(params: Params, shape: Shape) -> list[dict[str, Any]]:
    """Changes for supervised fine-tuning."""
    sft = params.sft
    accumulated = sft.per_device_train_batch_size * sft.gradient_accumulation_steps
    return [
        _shards(params, "sft"),
        {"sft.optim": "paged_adamw_8bit"},
        {"sft.gradient_checkpointing": True},
        {"sft.per_device_train_batch_size": 1, "sft.gradient_accumulation_steps": accumulated},
        {"sft.loss_type": "nll" if sft.loss_type == "chunked_nll" else "chunked_nll"},
        _adapters(params, shape),
        {"quantization": "4bit"},
        {"sft.max_length": sft.max_length // 2},
    ]


def _shards(params: Params, section: str) -> dict[str, Any]:
    """Weights divided between the GPUs, with an optimizer whose state can be divided too; it costs only time."""
    if params.lora or params.gpus == 1:
        return {}
    optim = getattr(params, section).optim
    change: dict[str, Any] = {"shard_weights": True}
    change |= {} if optim.startswith("adamw_torch") else {f"{section}.optim": "adamw_torch_fused"}
    return change | ({"train.cuda_graphs": False} if params.train.cuda_graphs else {})


def _smaller_cache(params: Params) -> dict[str, Any]:
    """Half the memory for keys and values, so that fewer completions are generated at the same time."""
    if params.engine == "graphs" and params.graphs:
        return {"graphs.kv_cache_gib": params.graphs.kv_cache_gib / 2}
    return {"vllm.kv_cache_gib": params.vllm.kv_cache_gib / 2} if params.vllm else {}


def _adapters(params: Params, shape: Shape) -> dict[str, Any]:
    return {} if params.lora else {"lora": {"rank": 16, "alpha": 16, "targets": list(shape.projections)}}


def _one_group_per_batch(train: Train) -> dict[str, Any]:
    """The same optimizer steps, accumulated over smaller batches."""
    split = train.per_device_train_batch_size // train.num_generations
    return {
        "train.per_device_train_batch_size": train.num_generations,
        "train.gradient_accumulation_steps": train.gradient_accumulation_steps * split,
        "train.steps_per_generation": train.steps_per_generation * split,
    }


def _unsloth(params: Params) -> dict[str, Any]:
    """Unsloth, with the settings that its loss requires; vLLM can't release its weights, since Unsloth shares them."""
    required = {
        "train.share_prompts": False, "train.old_log_probs": "computed", "train.compile": False,
        "train.cuda_graphs": False, "train.gradient_checkpointing": True,
    }  # fmt: skip
    return {"backend": "unsloth"} | required | ({"vllm.sleep": False} if params.vllm else {})


def _apply(params: Params, change: dict[str, Any]) -> Params | None:
    """The configuration with a change; None if it is not valid then."""
    try:
        return Params.model_validate(layers.merge(params.model_dump(), layers.nested(change)))
    except ValidationError:
        return None
