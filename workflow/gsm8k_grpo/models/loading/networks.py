"""Load a model's network, with its tokenizer and adapter."""

from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    logging,
)
from transformers.utils import SAFE_WEIGHTS_NAME, cached_file

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.models.loading.adapters import with_adapter
from gsm8k_grpo.models.loading.errors import not_loaded
from gsm8k_grpo.models.loading.precision import DTYPES, quantization
from gsm8k_grpo.models.loading.sources import Source
from gsm8k_grpo.models.loading.tokenizers import load_tokenizer
from gsm8k_grpo.models.refusals import indexed_files, refuse_unfit

CPU_ATTENTION = "eager"  # a quarter faster than sdpa for short padded sequences on a CPU
# What is kept of a model's generation_config.json: the tokens that begin, end and pad a completion, and transformers'
# flags that do not shape sampling.
TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
FLAGS = ("_from_model_config", "use_cache", "output_attentions", "output_hidden_states")

logging.disable_progress_bar()  # bars for milliseconds, which clutter the stages' own


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
        # A pair, because of output_loading_info; the declared return type does not say so.
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            name,
            config=config,
            dtype=DTYPES[params.precision],
            attn_implementation=attention if on_gpu else CPU_ATTENTION,
            quantization_config=quantization(params),
            device_map="cuda" if on_gpu and to_gpu else None,
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # weights of another size are refused below, by name
            output_loading_info=True,
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise not_loaded(name, error) from error
    model, info = loaded
    _require_all_weights(name, info)
    leave_sampling_to_the_configuration(model)
    return with_adapter(model, source.adapter) if source.adapter else model, tokenizer


def load_config(name: str) -> PretrainedConfig:
    """A model's configuration without dropout, which would make two passes over the same tokens differ."""
    try:
        refuse_unfit(name)
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise not_loaded(name, error) from error
    for section in (config, config.get_text_config()):
        for key in dropouts(section):
            setattr(section, key, 0.0)
    return config


def dropouts(config: PretrainedConfig) -> dict[str, float]:
    """The keys of a configuration that are shares of dropout, such as attention_dropout and resid_pdrop."""
    return {key: value for key, value in vars(config).items() if "drop" in key and isinstance(value, float)}


def leave_sampling_to_the_configuration(model: PreTrainedModel) -> None:
    """Keep only the token ids of a model's generation settings.

    TRL and transformers would take from these settings whatever a call does not name, such as min_p or suppress_tokens,
    and transformers refuses to save a model whose settings contradict each other.
    """
    own = model.generation_config
    kept = {name: value for name in (*TOKEN_IDS, *FLAGS) if (value := getattr(own, name, None)) is not None}
    model.generation_config = GenerationConfig(**kept)


def require_embeddings(name: str, config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """Require that the model has embeddings of the tokens that surround every prompt and completion.

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


def size(name: str) -> int:
    """The size of a model's weights in bytes, in a folder or in the hub's cache."""
    files = indexed_files(name) or {SAFE_WEIGHTS_NAME}
    return sum(Path(cast(str, cached_file(name, file))).stat().st_size for file in files)


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
