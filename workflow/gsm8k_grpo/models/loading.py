"""Load a model and its tokenizer from the hub or from a folder, and add adapters.

The model's files are checked before anything is loaded (refusals.py).  What a model's settings say about sampling and
dropout does not apply: the configuration shapes both, so that every model is trained and evaluated alike.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from jinja2.exceptions import TemplateError
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import CONFIG_NAME as ADAPTER_CONFIG_NAME
from peft.utils import SAFETENSORS_WEIGHTS_NAME, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    logging,
)
from transformers.utils import CONFIG_NAME, GENERATION_CONFIG_NAME, SAFE_WEIGHTS_NAME, cached_file

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.config.sections import Lora
from gsm8k_grpo.files import PipelineError, first_line
from gsm8k_grpo.models import chat_templates
from gsm8k_grpo.models.refusals import indexed_files, no_folder, read_json, refuse_unfit

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
# What stays of a model's generation_config.json: the tokens that begin, end and pad a completion, and flags of
# transformers that do not shape sampling.
TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
FLAGS = ("_from_model_config", "use_cache", "output_attentions", "output_hidden_states")

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

    def without_adapter(self) -> "Source":
        """The model that the adapter is for; without one, the model itself."""
        return replace(self, adapter=None)


def source(model: str, trained: Path | None) -> Source:
    """The base `model`, or with `trained` the model in that folder: all its weights, or an adapter for the base."""
    if trained is None:
        return Source(model)
    if (trained / "adapter_config.json").exists():
        return Source(model, adapter=str(trained))
    return Source(str(trained), base=model)


def load(
    source: Source, params: Params, attention: str = "sdpa", to_gpu: bool = True
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model, with the types that `precision` and `quantization` name, and its tokenizer.

    Args:
        source: where the model is.
        params: the configuration.
        attention: transformers' name of the attention to use on a GPU.
        to_gpu: whether to place the weights on the GPU, if there is one.

    Raises:
        PipelineError: if the model does not exist, is damaged, quantised, or contains code or pickles.
    """
    name, on_gpu = source.model, torch.cuda.is_available()
    config, tokenizer = load_config(name), load_tokenizer(name)
    require_embeddings(name, config, tokenizer)
    try:
        # A pair, because of output_loading_info, which the return type does not tell.
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            name,
            config=config,
            dtype=DTYPES[params.precision],
            attn_implementation=attention if on_gpu else CPU_ATTENTION,
            quantization_config=_quantization(params),
            device_map="cuda" if on_gpu and to_gpu else None,
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # they are refused below, by name
            output_loading_info=True,
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise _not_loaded(name, error) from error
    model, info = loaded
    _require_all_weights(name, info)
    leave_sampling_to_the_configuration(model)
    return _with_adapter(model, source.adapter) if source.adapter else model, tokenizer


def load_config(name: str) -> PretrainedConfig:
    """A model's configuration without dropout, which would make two passes over the same tokens differ."""
    try:
        refuse_unfit(name)
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise _not_loaded(name, error) from error
    for section in (config, config.get_text_config()):
        for key in dropouts(section):
            setattr(section, key, 0.0)
    return config


def dropouts(config: PretrainedConfig) -> dict[str, float]:
    """The keys of a configuration that are shares of dropout, such as attention_dropout and resid_pdrop."""
    return {key: value for key, value in vars(config).items() if "drop" in key and isinstance(value, float)}


def leave_sampling_to_the_configuration(model: PreTrainedModel) -> None:
    """Keep only the token ids of a model's generation settings.

    TRL and transformers take everything else from them that a call does not name, such as min_p or suppress_tokens,
    and transformers refuses to save a model whose settings contradict each other.
    """
    own = model.generation_config
    kept = {name: value for name in (*TOKEN_IDS, *FLAGS) if (value := getattr(own, name, None)) is not None}
    model.generation_config = GenerationConfig(**kept)


def require_embeddings(name: str, config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """Require that the model has an embedding of the tokens that surround every prompt and completion.

    Raises:
        PipelineError: naming the token, its id and the number of embeddings.
    """
    embeddings = config.get_text_config().vocab_size
    for role in ("pad", "eos", "bos"):
        token, token_id = getattr(tokenizer, f"{role}_token"), getattr(tokenizer, f"{role}_token_id")
        if token_id is not None and token_id >= embeddings:
            raise PipelineError(
                f"model = {name}: {role}_token {token} of its tokenizer has the id {token_id}, and the model has only "
                f"{embeddings} embeddings; name another {role}_token in tokenizer_config.json, or resize the embeddings"
            )


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
        refuse_unfit(name)
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
    added = read_json(name, TOKENIZER_FILE).get("added_tokens")
    if token is None or added is None:
        return token is not None
    return any(entry["content"] == token and entry["special"] for entry in added)


def _configured_ends(name: str) -> list[int | None]:
    """The end tokens of generation_config.json; of config.json if there is no such file, as in transformers."""
    ends = (read_json(name, GENERATION_CONFIG_NAME) or read_json(name, CONFIG_NAME)).get("eos_token_id")
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
    files = indexed_files(name) or {SAFE_WEIGHTS_NAME}
    return sum(Path(cast(str, cached_file(name, file))).stat().st_size for file in files)


def adapt(model: PreTrainedModel, lora: Lora, start: str | None = None) -> PeftModel:
    """The model with adapters in float32; only they are trained.

    Args:
        start: the folder of an adapter for this model, whose training goes on; None for new adapters.

    Raises:
        PipelineError: if the start's adapter has another shape or scale than `lora` says.
    """
    config = LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, target_modules=list(lora.targets), bias="none", task_type="CAUSAL_LM"
    )
    adapted = cast(PeftModel, get_peft_model(model, config))
    layers: list[Any] = [module for module in adapted.modules() if isinstance(module, BaseTunerLayer)]
    for layer in layers:
        # Autocast casts the adapter to the type of its input; otherwise peft would cast every input to float32 first.
        layer.cast_input_dtype_enabled = not _autocast(model)
    if start is not None:
        continue_adapter(adapted, start, lora)
    return adapted


def continue_adapter(adapted: PeftModel, folder: str, lora: Lora) -> None:
    """Load the weights of the adapter in a folder into new adapters, so that training continues from them.

    The result is one adapter for the base model, as without a start, so whatever loads a trained variant needs no other
    weights than these two.  TRL copies the adapter that it is given into a frozen one, which is the reference of the KL
    term.  Merged into the base weights, the start would be a third set of weights to keep, and in 4 bit a rounded one.

    Raises:
        PipelineError: if they have another shape or scale than `lora` says.
    """
    own = json.loads((Path(folder) / ADAPTER_CONFIG_NAME).read_bytes())
    found = (own["r"], own["lora_alpha"], sorted(own["target_modules"]))
    if found != (lora.rank, lora.alpha, sorted(lora.targets)):
        raise PipelineError(
            f"{folder}: is an adapter of rank {found[0]}, alpha {found[1]} on {', '.join(found[2])}, and lora = "
            f"{json.dumps(lora.model_dump())}; train the start again with the present lora"
        )
    set_peft_model_state_dict(adapted, load_file(Path(folder) / SAFETENSORS_WEIGHTS_NAME))


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
    """Require that the files hold every weight in its shape, and none that has no place in the model.

    Args:
        name: the model, for the message.
        info: transformers' loading info, which leaves out what an architecture declares ignorable.
    """
    unfit = sorted({*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])})
    if unfit:
        raise PipelineError(
            f"model = {name}: {len(unfit)} of its weights are missing or have another shape than config.json says, "
            f"such as {unfit[0]}; download the model again"
        )
    homeless = sorted(info["unexpected_keys"])
    if homeless:
        raise PipelineError(
            f"model = {name}: {len(homeless)} weights of its files have no place in the model of config.json, such as "
            f"{homeless[0]}; take the unquantised weights of this architecture (scales belong to quantised ones)"
        )


def _with_adapter(model: PreTrainedModel, folder: str) -> PreTrainedModel:
    """The model with an adapter; the result is a PeftModel, which passes attributes on to the model."""
    if not (Path(folder) / SAFETENSORS_WEIGHTS_NAME).exists():
        raise PipelineError(f"{folder}: has no {SAFETENSORS_WEIGHTS_NAME}; adapters are read only from safetensors")
    return cast(PreTrainedModel, PeftModel.from_pretrained(model, folder))


def _not_loaded(name: str, error: Exception) -> PipelineError:
    return PipelineError(
        f"model = {name}: it could not be loaded ({first_line(error)})"
        f"{no_folder(name)}. Give a folder with safetensors and a tokenizer, or a model of the hub that this machine "
        "can reach."
    )
