"""Load a model and its tokenizer: from the hub, from a local folder, or as a stage left it."""

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from gsm8k_grpo.files import PipelineError

CPU_ATTENTION = "eager"  # a quarter faster than sdpa for short padded sequences on a CPU


def load(name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model in 32 bit on the CPU or in bfloat16 on the GPU, and its tokenizer, padding on the left.

    Weights are read from safetensors only and no code that comes with a model is run.
    """
    if torch.cuda.is_available():
        device, dtype, attention = "cuda", torch.bfloat16, "sdpa"
    else:
        device, dtype, attention = "cpu", torch.float32, CPU_ATTENTION
    try:
        model = AutoModelForCausalLM.from_pretrained(
            name, dtype=dtype, attn_implementation=attention, use_safetensors=True, trust_remote_code=False
        )
        tokenizer = AutoTokenizer.from_pretrained(name, padding_side="left", trust_remote_code=False)
    except OSError as error:
        raise PipelineError(
            f"model = {name}: it could not be loaded ({str(error).splitlines()[0]}). "
            "Give a folder with safetensors and a tokenizer, or a model of the hub that this machine can reach."
        ) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model.to(device), tokenizer
