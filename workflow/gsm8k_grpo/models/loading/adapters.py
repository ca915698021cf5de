"""Adapters: new ones to train, those that training continues, and those of a trained variant."""

import json
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import CONFIG_NAME as ADAPTER_CONFIG_NAME
from peft.utils import SAFETENSORS_WEIGHTS_NAME, set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import PreTrainedModel

from gsm8k_grpo.config.sections import Lora
from gsm8k_grpo.files import PipelineError


def adapt(model: PreTrainedModel, lora: Lora, start: str | None = None) -> PeftModel:
    """The model with adapters in float32; only they are trained.

    Args:
        start: the folder of an adapter for this model, to continue its training; None for new adapters.

    Raises:
        PipelineError: if the start's adapter has another shape or scale than `lora` says.
    """
    config = LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, target_modules=list(lora.targets), bias="none", task_type="CAUSAL_LM"
    )
    adapted = cast(PeftModel, get_peft_model(model, config))
    layers: list[Any] = [module for module in adapted.modules() if isinstance(module, BaseTunerLayer)]
    for layer in layers:
        # Under autocast the adapter is cast to the type of its input; peft would first cast every input to float32.
        layer.cast_input_dtype_enabled = not _autocast(model)
    if start is not None:
        continue_adapter(adapted, start, lora)
    return adapted


def continue_adapter(adapted: PeftModel, folder: str, lora: Lora) -> None:
    """Load the weights of the adapter in a folder into new adapters, so that training continues from them.

    The result is one adapter for the base model, as without a start, so whatever loads a trained variant needs only the
    base and this adapter.  TRL copies the adapter that it is given into a frozen one, which is the reference of the KL
    term.  If the start were merged into the base weights, there would be a third set of weights to keep, and in 4 bit
    these would be rounded.

    Raises:
        PipelineError: if the adapter in the folder has another shape or scale than `lora` says.
    """
    own = json.loads((Path(folder) / ADAPTER_CONFIG_NAME).read_bytes())
    found = (own["r"], own["lora_alpha"], sorted(own["target_modules"]))
    if found != (lora.rank, lora.alpha, sorted(lora.targets)):
        raise PipelineError(
            f"{folder}: is an adapter of rank {found[0]}, alpha {found[1]} on {', '.join(found[2])}, and lora = "
            f"{json.dumps(lora.model_dump())}; train the start again with the present lora"
        )
    set_peft_model_state_dict(adapted, load_file(Path(folder) / SAFETENSORS_WEIGHTS_NAME))


def with_adapter(model: PreTrainedModel, folder: str) -> PreTrainedModel:
    """The model with an adapter; the result is a PeftModel, which passes attributes on to the model."""
    if not (Path(folder) / SAFETENSORS_WEIGHTS_NAME).exists():
        raise PipelineError(f"{folder}: has no {SAFETENSORS_WEIGHTS_NAME}; adapters are read only from safetensors")
    return cast(PreTrainedModel, PeftModel.from_pretrained(model, folder))


def _autocast(model: PreTrainedModel) -> bool:
    return model.dtype != torch.float32
