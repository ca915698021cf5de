"""Load a model and its tokenizer: from the hub, from a local folder, or as a stage left it.

A model comes from outside and is not trusted: its weights are read from safetensors alone, and what could make
transformers run its code or unpickle a file is refused before anything is loaded.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase, logging
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, cached_file

from gsm8k_grpo.files import PipelineError

CPU_ATTENTION = "eager"  # a quarter faster than sdpa for short padded sequences on a CPU
# Keys of a model's JSON files that name code, or weights in a file of the model's choice.
UNTRUSTED = {
    "config.json": ("auto_map", "transformers_weights"),
    "tokenizer_config.json": ("auto_map",),
    "adapter_config.json": ("auto_mapping", "base_model_name_or_path"),
}

logging.disable_progress_bar()  # bars of milliseconds between the stages' own


def load(name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model in 32 bit on the CPU or in bfloat16 on the GPU, and its tokenizer, padding on the left.

    Raises:
        PipelineError: where it is not there, damaged, or brings code or pickles.
    """
    if torch.cuda.is_available():
        device, dtype, attention = "cuda", torch.bfloat16, "sdpa"
    else:
        device, dtype, attention = "cpu", torch.float32, CPU_ATTENTION
    try:
        _refuse_code_and_pickles(name)
        model, found = AutoModelForCausalLM.from_pretrained(
            name,
            dtype=dtype,
            attn_implementation=attention,
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # they are refused below, by name
            output_loading_info=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(name, padding_side="left", trust_remote_code=False)
    except (OSError, ValueError, SafetensorError) as error:
        raise PipelineError(
            f"model = {name}: it could not be loaded ({str(error).partition(chr(10))[0]}). "
            "Give a folder with safetensors and a tokenizer, or a model of the hub that this machine can reach."
        ) from error
    unfit = sorted({*found["missing_keys"], *(key for key, *_ in found["mismatched_keys"])})
    if unfit:
        raise PipelineError(
            f"model = {name}: {len(unfit)} of its weights are missing or of another shape than config.json says, "
            f"such as {unfit[0]}; get the model anew"
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model.to(device), tokenizer


def _refuse_code_and_pickles(name: str) -> None:
    """Look through the files that tell transformers what to load, from the hub or a folder alike."""
    for file, keys in UNTRUSTED.items():
        for key in keys:
            if key in _json(name, file):
                raise PipelineError(
                    f"model = {name}: {file} has the key {key}, which makes a model run its own code or load files of "
                    "its choice; give a model of an architecture that transformers knows, with adapters merged"
                )
    for file in sorted(set(_json(name, SAFE_WEIGHTS_INDEX_NAME).get("weight_map", {}).values())):
        if Path(file).name != file or not file.endswith(".safetensors"):
            raise PipelineError(
                f"model = {name}: {SAFE_WEIGHTS_INDEX_NAME} names {file}; weights are read from safetensors files of "
                "the model's own folder alone"
            )


def _json(name: str, file: str) -> dict[str, Any]:
    """A JSON file of a model, empty where the model has none."""
    path = cached_file(name, file, _raise_exceptions_for_missing_entries=False)
    return json.loads(Path(path).read_bytes()) if path else {}
