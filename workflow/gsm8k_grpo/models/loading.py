"""Load a model and its tokenizer from the hub or from a folder, and add adapters.

Models from outside are not trusted: weights are read only from safetensors, and files that could make transformers run
a model's own code or unpickle a file are refused before anything is loaded.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from jinja2.exceptions import TemplateError
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
from transformers.utils import (
    CONFIG_NAME,
    GENERATION_CONFIG_NAME,
    SAFE_WEIGHTS_INDEX_NAME,
    SAFE_WEIGHTS_NAME,
    cached_file,
)

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.config.sections import Lora
from gsm8k_grpo.files import PipelineError, first_line
from gsm8k_grpo.models import chat_templates

DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "mixed": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
"""The type of the weights for each `precision`."""

COMPUTED = {"float32": "float32", "mixed": "bfloat16", "bfloat16": "bfloat16", "float16": "float16"}
"""The type of computation for each `precision`, as vLLM names it."""

TOKENIZER_FILE = "tokenizer.json"
CPU_ATTENTION = "eager"  # a quarter faster than sdpa for short padded sequences on a CPU
# Keys of a model's JSON files that name code, or a file with weights.
UNTRUSTED = {
    "config.json": ("auto_map", "transformers_weights"),
    "tokenizer_config.json": ("auto_map",),
    "adapter_config.json": ("auto_mapping", "base_model_name_or_path"),
}

logging.disable_progress_bar()  # they last milliseconds and clutter the stages' own


@dataclass(frozen=True)
class Source:
    """Where a model is.

    Attributes:
        model: a folder, or a name on the hub.
        adapter: the folder of an adapter for it.
        base: if all weights were trained, the model that training started from, which has the same shape.
    """

    model: str
    adapter: str | None = None
    base: str | None = None


def source(model: str, trained: Path | None) -> Source:
    """The base `model`, or with `trained` the model in that folder: all its weights, or an adapter for the base."""
    if trained is None:
        return Source(model)
    if (trained / "adapter_config.json").exists():
        return Source(model, adapter=str(trained))
    return Source(str(trained), base=model)


def load(source: Source, params: Params, attention: str = "sdpa") -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model, with the types that `precision` and `quantization` name, and its tokenizer.

    Args:
        source: where the model is.
        params: the configuration.
        attention: transformers' name of the attention to use on a GPU.

    Raises:
        PipelineError: if the model does not exist, is damaged, or contains code or pickles.
    """
    name, on_gpu = source.model, torch.cuda.is_available()
    try:
        refuse_code_and_pickles(name)
        # A pair, because of output_loading_info, which the return type does not tell.
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            name,
            dtype=DTYPES[params.precision],
            attn_implementation=attention if on_gpu else CPU_ATTENTION,
            quantization_config=_quantization(params),
            device_map="cuda" if on_gpu else None,
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # they are refused below, by name
            output_loading_info=True,
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise _not_loaded(name, error) from error
    model, info = loaded
    _require_all_weights(name, info)
    return _with_adapter(model, source.adapter) if source.adapter else model, load_tokenizer(name)


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """A model's tokenizer: it pads on the left, and its end token is the one that ends a turn of its chat template.

    It has two further attributes, lists of token ids:
        `end_tokens`: the ends of an answer: the end of a turn, the tokenizer's own end token, and those that
            generation_config.json names.
        `stop_tokens`: the tokens at which generation stops: these and the padding token.

    A padding token that is not a special token could be part of an answer; the end token takes its place.

    Raises:
        PipelineError: if it does not exist, contains code, or has no usable chat template.
    """
    try:
        refuse_code_and_pickles(name)
        tokenizer = AutoTokenizer.from_pretrained(name, padding_side="left", trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise _not_loaded(name, error) from error
    chat_templates.settle(tokenizer, name)
    if not _special_token(name, tokenizer.pad_token):
        tokenizer.pad_token = tokenizer.eos_token
    ends = {tokenizer.eos_token_id, *_configured_ends(name)}
    tokenizer.eos_token = end_of_turn(tokenizer)
    ends |= {tokenizer.eos_token_id}
    tokenizer.end_tokens = sorted(ends - {None})
    tokenizer.stop_tokens = sorted({*tokenizer.end_tokens, tokenizer.pad_token_id})
    return tokenizer


def _special_token(name: str, token: str | None) -> bool:
    """Whether a token is a special one in the tokenizer's file; transformers makes any token for padding a special one.

    A model without that file has an older format, whose tokens for padding are special.
    """
    added = _json(name, TOKENIZER_FILE).get("added_tokens")
    if token is None or added is None:
        return token is not None
    return any(entry["content"] == token and entry["special"] for entry in added)


def _configured_ends(name: str) -> list[int | None]:
    """The end tokens of generation_config.json; of config.json if there is no such file, as in transformers."""
    ends = (_json(name, GENERATION_CONFIG_NAME) or _json(name, CONFIG_NAME)).get("eos_token_id")
    return ends if isinstance(ends, list) else [ends]


def keep_end_tokens(model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Let generation_config.json name all end tokens wherever the model is saved."""
    cast(Any, model).generation_config.eos_token_id = cast(Any, tokenizer).end_tokens
    # Where this differs, transformers sets it before training, and puts the token into the list once more.
    model.config.eos_token_id = tokenizer.eos_token_id


def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> str:
    """The special token with which the chat template ends an answer, else the tokenizer's own end token.

    Base models such as Qwen2.5 have another end token, which they never generate with a chat template.
    """
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    try:
        text = cast(str, tokenizer.apply_chat_template(messages, tokenize=False))
    except TemplateError:  # some templates take only conversations that end with a turn of the user
        return tokenizer.eos_token
    after_answer = tokenizer(text.rpartition("!")[2], add_special_tokens=False)["input_ids"]
    added = tokenizer.added_tokens_decoder
    special = (added[token].content for token in after_answer if token in added and added[token].special)
    return next(special, tokenizer.eos_token)


def size(name: str) -> int:
    """Bytes of a model's weights, in a folder or in the hub's cache."""
    files = _indexed_files(name) or {SAFE_WEIGHTS_NAME}
    return sum(Path(cast(str, cached_file(name, file))).stat().st_size for file in files)


def adapt(model: PreTrainedModel, lora: Lora) -> PeftModel:
    """The model with new adapters in float32; only they are trained."""
    config = LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, target_modules=list(lora.targets), bias="none", task_type="CAUSAL_LM"
    )
    adapted = cast(PeftModel, get_peft_model(model, config))
    layers: list[Any] = [module for module in adapted.modules() if isinstance(module, BaseTunerLayer)]
    for layer in layers:
        # Autocast casts the adapter to the type of its input; otherwise peft would cast every input to float32 first.
        layer.cast_input_dtype_enabled = not _autocast(model)
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


def _require_all_weights(name: str, info: dict[str, Any]) -> None:
    """Require that the files hold every weight in its shape; `info` is transformers' loading info."""
    unfit = sorted({*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])})
    if unfit:
        raise PipelineError(
            f"model = {name}: {len(unfit)} of its weights are missing or have another shape than config.json says, "
            f"such as {unfit[0]}; download the model again"
        )


def _with_adapter(model: PreTrainedModel, folder: str) -> PreTrainedModel:
    """The model with an adapter; the result is a PeftModel, which passes attributes on to the model."""
    if not (Path(folder) / SAFETENSORS_WEIGHTS_NAME).exists():
        raise PipelineError(f"{folder}: has no {SAFETENSORS_WEIGHTS_NAME}; adapters are read only from safetensors")
    return cast(PreTrainedModel, PeftModel.from_pretrained(model, folder))


def _not_loaded(name: str, error: Exception) -> PipelineError:
    return PipelineError(
        f"model = {name}: it could not be loaded ({first_line(error)}). "
        "Give a folder with safetensors and a tokenizer, or a model of the hub that this machine can reach."
    )


def refuse_code_and_pickles(name: str) -> None:
    """Check the files that tell transformers what to load, in a folder or from the hub.

    Raises:
        PipelineError: if a file names code, or weights in another format or folder.
    """
    for file, keys in UNTRUSTED.items():
        for key in keys:
            if key in _json(name, file):
                raise PipelineError(
                    f"model = {name}: {file} has the key {key}, which makes a model run its own code or load files of "
                    "its choice; give a model of an architecture that transformers knows, with adapters merged"
                )
    for file in sorted(_indexed_files(name)):
        if Path(file).name != file or not file.endswith(".safetensors"):
            raise PipelineError(
                f"model = {name}: {SAFE_WEIGHTS_INDEX_NAME} names {file}; weights are read only from safetensors files "
                "of the model's own folder"
            )


def _indexed_files(name: str) -> set[str]:
    """The files with a model's weights that its index names; empty without an index."""
    return set(_json(name, SAFE_WEIGHTS_INDEX_NAME).get("weight_map", {}).values())


def _json(name: str, file: str) -> dict[str, Any]:
    """A JSON file of a model; empty if the model has none of this name."""
    path = cached_file(name, file, _raise_exceptions_for_missing_entries=False)
    return json.loads(Path(path).read_bytes()) if path else {}
