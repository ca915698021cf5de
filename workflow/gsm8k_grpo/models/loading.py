"""Load a model and its tokenizer: from the hub, from a local folder, or as a stage left it; with adapters where
training makes them.

A model comes from outside and is not trusted: its weights are read from safetensors alone, and what could make
transformers run its code or unpickle a file is refused before anything is loaded.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    logging,
)
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, cached_file

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.config.sections import Lora
from gsm8k_grpo.files import PipelineError

DTYPES = {
    "float32": torch.float32,
    "mixed": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
COMPUTED = {"float32": "float32", "mixed": "bfloat16", "bfloat16": "bfloat16", "float16": "float16"}
CPU_ATTENTION = "eager"  # a quarter faster than sdpa for short padded sequences on a CPU
# Keys of a model's JSON files that name code, or weights in a file of the model's choice.
UNTRUSTED = {
    "config.json": ("auto_map", "transformers_weights"),
    "tokenizer_config.json": ("auto_map",),
    "adapter_config.json": ("auto_mapping", "base_model_name_or_path"),
}

logging.disable_progress_bar()  # bars of milliseconds between the stages' own


@dataclass(frozen=True)
class Source:
    """Where a model is: a folder or a name of the hub, and the folder of an adapter that goes over it.

    `base` is the model that its weights, if all of them were trained, began as: one of the same shape.
    """

    model: str
    adapter: str | None = None
    base: str | None = None


def source(model: str, trained: Path | None) -> Source:
    """The base `model`, or what was trained from it: all weights, or an adapter over those of the base model."""
    if trained is None:
        return Source(model)
    if (trained / "adapter_config.json").exists():
        return Source(model, adapter=str(trained))
    return Source(str(trained), base=model)


def load(source: Source, params: Params, attention: str = "sdpa") -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model as `precision` and `quantization` say, and its tokenizer; `attention` is that of a card.

    Raises:
        PipelineError: where it is not there, damaged, or brings code or pickles.
    """
    name, on_card = source.model, torch.cuda.is_available()
    try:
        refuse_code_and_pickles(name)
        model, found = AutoModelForCausalLM.from_pretrained(
            name,
            dtype=DTYPES[params.precision],
            attn_implementation=attention if on_card else CPU_ATTENTION,
            quantization_config=_quantization(params),
            device_map="cuda" if on_card else None,
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # they are refused below, by name
            output_loading_info=True,
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise _not_loaded(name, error) from error
    unfit = sorted({*found["missing_keys"], *(key for key, *_ in found["mismatched_keys"])})
    if unfit:
        raise PipelineError(
            f"model = {name}: {len(unfit)} of its weights are missing or of another shape than config.json says, "
            f"such as {unfit[0]}; get the model anew"
        )
    if source.adapter:
        model = _with_adapter(model, source.adapter)
    return model, load_tokenizer(name)


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """A model's tokenizer, padding on the left, whose end token is the one that ends a turn of its chat template."""
    try:
        refuse_code_and_pickles(name)
        tokenizer = AutoTokenizer.from_pretrained(name, padding_side="left", trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise _not_loaded(name, error) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.eos_token = end_of_turn(tokenizer)
    return tokenizer


def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> str:
    """The token that the chat template ends an answer with, else the tokenizer's own end token.

    Base models such as Qwen2.5 have another end token, which they never give under a chat template.
    """
    answered = tokenizer.apply_chat_template(
        [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}], tokenize=False
    )
    after = tokenizer(answered.rpartition("!")[2], add_special_tokens=False)["input_ids"]
    known = tokenizer.added_tokens_decoder
    special = (known[token].content for token in after if token in known and known[token].special)
    return next(special, tokenizer.eos_token)


def size(name: str) -> int:
    """Bytes of a model's weights, in a folder or in the hub's cache."""
    files = set(_json(name, SAFE_WEIGHTS_INDEX_NAME).get("weight_map", {}).values()) or {SAFE_WEIGHTS_NAME}
    return sum(Path(cached_file(name, file)).stat().st_size for file in files)


def adapt(model: PreTrainedModel, lora: Lora) -> PeftModel:
    """The model with new adapters in float32, which alone are trained."""
    config = LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, target_modules=list(lora.targets), bias="none", task_type="CAUSAL_LM"
    )
    adapted = get_peft_model(model, config)
    for module in adapted.modules():
        if isinstance(module, BaseTunerLayer):
            # Autocast brings the adapter to the type of its input; peft would bring every input to float32 first.
            module.cast_input_dtype_enabled = not _autocast(model)
    return adapted


def _autocast(model: PreTrainedModel) -> bool:
    return model.dtype != torch.float32


def _quantization(params: Params) -> BitsAndBytesConfig | None:
    if params.quantization is None:
        return None
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=DTYPES[params.precision],
    )


def _with_adapter(model: PreTrainedModel, folder: str) -> PeftModel:
    if not (Path(folder) / SAFETENSORS_WEIGHTS_NAME).exists():
        raise PipelineError(f"{folder}: holds no {SAFETENSORS_WEIGHTS_NAME}; adapters are read from safetensors alone")
    return PeftModel.from_pretrained(model, folder)


def _not_loaded(name: str, error: Exception) -> PipelineError:
    return PipelineError(
        f"model = {name}: it could not be loaded ({str(error).partition(chr(10))[0]}). "
        "Give a folder with safetensors and a tokenizer, or a model of the hub that this machine can reach."
    )


def refuse_code_and_pickles(name: str) -> None:
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
