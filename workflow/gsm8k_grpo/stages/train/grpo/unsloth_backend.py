"""The backend `unsloth`: its loader, its kernels and its loss, under TRL's GRPOTrainer.

Unsloth rewrites transformers, peft and TRL when it is imported, so it must come before them: the command line imports
this module first.  With engine vllm, Unsloth and vLLM share one copy of the weights.
"""

import os
from typing import Any

from gsm8k_grpo.files import PipelineError, first_line

os.environ.setdefault("UNSLOTH_COMPILE_LOCATION", ".work/unsloth")  # where Unsloth writes the code that it generates
os.environ.setdefault("VLLM_USE_FLASHINFER_SAMPLER", "0")  # as in models.vllm_engine; here Unsloth starts vLLM

try:
    from unsloth import FastLanguageModel
except (ImportError, NotImplementedError) as error:
    raise PipelineError(
        f"backend = unsloth: Unsloth can't be imported ({first_line(error)}); it needs a CUDA GPU and the packages of "
        "envs/cuda.txt. backend: trl trains without it"
    ) from error

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.config.sections import Vllm
from gsm8k_grpo.memory.plan import GRAPHS_GIB
from gsm8k_grpo.models import loading


def load(start: loading.Source, params: Params) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model with adapters, which are new or those of the start, and its tokenizer, see `models.loading`."""
    assert params.lora is not None  # backend unsloth requires the section
    name = start.model
    config, tokenizer = loading.load_config(name), loading.load_tokenizer(name)
    loading.require_embeddings(name, config, tokenizer)
    options: dict[str, Any] = {"max_seq_length": None}
    if params.engine == "vllm":
        assert params.vllm is not None  # engine vllm requires the section
        share = _memory_share(name, params.vllm, params.quantization is not None)
        options = {
            "fast_inference": True,
            "gpu_memory_utilization": share,
            "max_seq_length": params.vllm.max_model_length,
        }
    model, _ = FastLanguageModel.from_pretrained(
        name,
        dtype=loading.DTYPES[params.precision],
        load_in_4bit=params.quantization == "4bit",
        max_lora_rank=params.lora.rank,
        use_exact_model_name=True,
        trust_remote_code=False,
        **options,
    )
    loading.leave_sampling_to_the_configuration(model)
    adapted = FastLanguageModel.get_peft_model(
        model,
        r=params.lora.rank,
        lora_alpha=params.lora.alpha,
        target_modules=list(params.lora.targets),
        use_gradient_checkpointing="unsloth" if params.train.gradient_checkpointing else False,
        random_state=params.seed,
    )
    if start.adapter is not None:
        loading.continue_adapter(adapted, start.adapter, params.lora)
    return adapted, tokenizer


def _memory_share(name: str, vllm: Vllm, quantized: bool) -> float:
    """The share of the GPU's memory for vLLM, from 0 to 1: weights at their size on disk, or 0.3 of it if quantised,
    the KV cache, and CUDA graphs.
    """
    weights = loading.size(name) * (0.3 if quantized else 1.0)
    wanted = weights + (vllm.kv_cache_gib + GRAPHS_GIB["unsloth"]) * 2**30
    return wanted / torch.cuda.get_device_properties().total_memory
