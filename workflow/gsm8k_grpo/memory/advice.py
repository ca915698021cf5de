"""Whether a training run fits a card, and what to change where it doesn't: the plan of `vram.py` against a size."""

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
from gsm8k_grpo.memory.plan import GIB, plan
from gsm8k_grpo.memory.shapes import Shape


def gpu_gib(params: Params) -> float | None:
    """GiB that the run may take: vram_gib or the whole card, whichever is less; None without both."""
    found = torch.cuda.get_device_properties(0).total_memory / GIB if torch.cuda.is_available() else None
    return min((size for size in (params.vram_gib, found) if size is not None), default=None)


def require_fit(params: Params, method: Method) -> None:
    """Refuse a training run that can't fit the card; where there is no card and no vram_gib, nothing is refused.

    Raises:
        PipelineError: with the table and what to change.
    """
    size = gpu_gib(params)
    if size is None:
        return
    shape = shapes.of(params)
    params = params.model_copy(update={"method": method})
    if plan(params, shape).gib > size:
        raise PipelineError(f"the card is too small for this training:\n{report(params, shape, size)}")


def report(params: Params, shape: Shape, size: float | None) -> str:
    """The table of the recipe's method, whether it fits `size` GiB, and what to change where it doesn't."""
    planned = plan(params, shape)
    head = f"recipe {params.recipe}, model {params.model}{'' if size is None else f', {size:g} GiB'}"
    if size is None:
        verdict = "No card is named (vram_gib or --card) and none is here."
    elif planned.gib <= size:
        verdict = f"It fits; {size - planned.gib:.2f} GiB are left."
    else:
        verdict = f"It does not fit: {planned.gib - size:.2f} GiB are missing.\n{_advice(params, shape, size)}"
    return f"{head}\n\n{planned.table()}\n\n{verdict}"


def _advice(params: Params, shape: Shape, size: float) -> str:
    """Changes that save memory, those that cost least first, until it fits."""
    lines = ["Change, one after the other:"]
    rewarded = METHODS[params.method].learns_from_rewards
    for change in _changes(params, shape) if rewarded else _supervised_changes(params, shape):
        changed = _changed(params, change)
        if changed is None or plan(changed, shape).gib >= plan(params, shape).gib:
            continue
        params = changed
        settings = " ".join(f"--set '{key}={json.dumps(value)}'" for key, value in change.items())
        lines.append(f"  {settings}: {plan(params, shape).gib:.2f} GiB")
        if plan(params, shape).gib <= size:
            return "\n".join(lines)
    return "\n".join([*lines, "Even so it does not fit: take a smaller model or a larger card."])


def _changes(params: Params, shape: Shape) -> list[dict[str, Any]]:
    """Keys and values; where a change does not apply, none."""
    train = params.train
    return [
        {"train.optim": "paged_adamw_8bit"},
        {"train.share_prompts": True},
        {"vllm.sleep": True} if params.vllm else {},
        {"train.gradient_checkpointing": True},
        _one_group_a_batch(train) if train.per_device_train_batch_size > train.num_generations else {},
        {"vllm.kv_cache_gib": params.vllm.kv_cache_gib / 2} if params.vllm else {},
        {"train.beta": 0.0},
        _adapters(params, shape),
        _unsloth(params),
        {"quantization": "4bit"},
        {"engine": "transformers", "train.old_log_probs": "computed", "train.compile": False},
        {"train.max_completion_length": train.max_completion_length // 2},
    ]


def _supervised_changes(params: Params, shape: Shape) -> list[dict[str, Any]]:
    sft = params.sft
    accumulated = sft.per_device_train_batch_size * sft.gradient_accumulation_steps
    return [
        {"sft.optim": "paged_adamw_8bit"},
        {"sft.gradient_checkpointing": True},
        {"sft.per_device_train_batch_size": 1, "sft.gradient_accumulation_steps": accumulated},
        {"sft.loss_type": "nll" if sft.loss_type == "chunked_nll" else "chunked_nll"},
        _adapters(params, shape),
        {"quantization": "4bit"},
        {"sft.max_length": sft.max_length // 2},
    ]


def _adapters(params: Params, shape: Shape) -> dict[str, Any]:
    return {} if params.lora else {"lora": {"rank": 16, "alpha": 16, "targets": list(shape.projections)}}


def _one_group_a_batch(train: Train) -> dict[str, Any]:
    """The same optimizer steps from smaller batches."""
    split = train.per_device_train_batch_size // train.num_generations
    return {
        "train.per_device_train_batch_size": train.num_generations,
        "train.gradient_accumulation_steps": train.gradient_accumulation_steps * split,
        "train.steps_per_generation": train.steps_per_generation * split,
    }


def _unsloth(params: Params) -> dict[str, Any]:
    """Its loss is its own; vLLM takes its weights, so that they can't be given back."""
    own = {"train.share_prompts": False, "train.compile": False, "train.gradient_checkpointing": True}
    return {"backend": "unsloth"} | own | ({"vllm.sleep": False} if params.vllm else {})


def _changed(params: Params, change: dict[str, Any]) -> Params | None:
    """The configuration with a change; None where the two don't go together."""
    try:
        return Params.model_validate(layers.merge(params.model_dump(), layers.nested(change)))
    except ValidationError:
        return None
