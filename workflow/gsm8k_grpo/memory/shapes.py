"""Shapes of models: the number of weights and the sizes of matrices, without downloading the model.

The models of the published recipes are in a table here, copied from their config.json files.  The config.json of any
other model is read from its folder or from the hub.  Weights are counted on the model that transformers builds on
PyTorch's meta device, where tensors take no memory.
"""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.config.sections import Architecture, Lora
from gsm8k_grpo.files import PipelineError, first_line
from gsm8k_grpo.models.refusals import no_folder, refuse_missing, refuse_quantized, refuse_unfit

LONGEST_REASON = 120  # characters shown of an error of transformers


def _sizes(
    hidden: int,
    intermediate: int,
    layers: int,
    heads: int,
    kv_heads: int,
    vocabulary: int,
    tied: bool,
    context: int = 32768,
) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": hidden // heads,
        "vocab_size": vocabulary,
        "tie_word_embeddings": tied,
        "max_position_embeddings": context,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }


# transformers' model type and sizes, by the model's name on the hub.
PUBLISHED: dict[str, tuple[str, dict[str, Any]]] = {
    "Qwen/Qwen2.5-1.5B": ("qwen2", _sizes(1536, 8960, 28, 12, 2, 151936, tied=True)),
    "Qwen/Qwen2.5-3B": ("qwen2", _sizes(2048, 11008, 36, 16, 2, 151936, tied=True)),
    "Qwen/Qwen2.5-7B-Instruct": ("qwen2", _sizes(3584, 18944, 28, 28, 4, 152064, tied=False)),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B": ("qwen2", _sizes(5120, 27648, 64, 40, 8, 152064, tied=False)),
    "HuggingFaceTB/SmolLM2-135M-Instruct": ("llama", _sizes(576, 1536, 30, 9, 3, 49152, tied=True)),
    "meta-llama/Llama-3.1-8B-Instruct": ("llama", _sizes(4096, 14336, 32, 32, 8, 128256, tied=False)),
    "meta-llama/Llama-3.2-1B-Instruct": ("llama", _sizes(2048, 8192, 16, 32, 8, 128256, tied=True)),
    "unsloth/phi-4": ("llama", _sizes(5120, 17920, 40, 40, 10, 100352, tied=False)),
    "microsoft/phi-4": ("phi3", _sizes(5120, 17920, 40, 40, 10, 100352, tied=False)),
}


@dataclass(frozen=True)
class Projection:
    """A linear map that every layer has, such as q_proj, from n inputs to m outputs.

    Attributes:
        weights: the number of its weights, n * m, summed over the layers.
        ends: the number of its inputs and outputs, n + m, summed over the layers.
    """

    weights: int
    ends: int


@dataclass(frozen=True)
class Shape:
    """The sizes that memory depends on; `cache_width` is how many numbers the cache holds per token and layer."""

    parameters: int
    projections: dict[str, Projection]
    hidden: int
    intermediate: int
    layers: int
    cache_width: int
    vocabulary: int

    @property
    def projected(self) -> int:
        """The number of weights in projections, which 4-bit quantisation applies to."""
        return sum(projection.weights for projection in self.projections.values())

    def adapter(self, lora: Lora) -> int:
        """The number of weights of adapters: rank * (n + m) for each map from n to m.

        Raises:
            PipelineError: if the model lacks a projection of `lora.targets`.
        """
        for target in lora.targets:
            if target not in self.projections:
                raise PipelineError(
                    f"lora.targets = {target}: the model has no such projection; choose from "
                    f"{', '.join(self.projections)}"
                )
        return lora.rank * sum(self.projections[target].ends for target in lora.targets)


def shape_of(params: Params) -> Shape:
    """The shape of the model that `params` names."""
    return measure(config_of(params))


def config_of(params: Params) -> PretrainedConfig:
    """transformers' configuration of the model that `params` names."""
    if params.model == "scratch" and params.base:
        return scratch_config(params.base.architecture)
    return config(params.model)


def config(model: str) -> PretrainedConfig:
    """transformers' configuration of a published model, or of one in a folder or on the hub.

    Raises:
        PipelineError: if its config.json can't be read, or training can't start from such a model.
    """
    if model in PUBLISHED:
        kind, sizes = PUBLISHED[model]
        return AutoConfig.for_model(kind, **sizes)
    refuse_missing(model)
    try:
        if Path(model).is_dir():  # stages check the other files of a model on the hub once they have them
            refuse_unfit(model)
        read = AutoConfig.from_pretrained(model, trust_remote_code=False)
        refuse_quantized(model, read.to_dict())
        return read
    except (OSError, ValueError) as error:
        raise PipelineError(
            f"model = {model}: its config.json could not be read ({first_line(error)})"
            f"{no_folder(model)}. Give a folder that has one, or a model whose shape is built in: "
            f"{', '.join(PUBLISHED)}"
        ) from error


def scratch_config(architecture: Architecture) -> PretrainedConfig:
    """The model that the stage base makes, with the largest vocabulary that its tokenizer may get."""
    sizes = _sizes(
        architecture.hidden,
        architecture.intermediate,
        architecture.layers,
        architecture.heads,
        architecture.heads,
        architecture.vocabulary,
        tied=True,
        context=architecture.context,
    )
    return AutoConfig.for_model("qwen2", **sizes)


def measure(config: PretrainedConfig) -> Shape:
    """The shape of the model that transformers builds from a configuration.

    Raises:
        PipelineError: if transformers has no such model, or the configuration does not name the sizes of attention.
    """
    model = _without_memory(config)
    weights: dict[str, int] = defaultdict(int)
    ends: dict[str, int] = defaultdict(int)
    inputs: dict[int, int] = defaultdict(int)  # the largest number of inputs of a projection, by its outputs
    for name, module in model.base_model.named_modules():  # without the head, which is never quantised or adapted
        if isinstance(module, torch.nn.Linear | Conv1D):
            projection = name.rpartition(".")[2]
            # The weights of transformers' Conv1D, which GPT-2 has, are transposed.
            rows, columns = module.weight.shape if isinstance(module, Conv1D) else module.weight.T.shape
            weights[projection] += rows * columns
            ends[projection] += rows + columns
            inputs[columns] = max(inputs[columns], rows)
    text = config.get_text_config()
    hidden, heads = _size(config, "hidden_size"), _size(config, "num_attention_heads")
    head_dim = getattr(text, "head_dim", None) or hidden // heads
    return Shape(
        parameters=model.num_parameters(),
        projections={name: Projection(weights[name], ends[name]) for name in weights},
        hidden=hidden,
        # If the size has another name, it is the number of inputs of the MLP's last projection.
        intermediate=getattr(text, "intermediate_size", None) or inputs[hidden],
        layers=_size(config, "num_hidden_layers"),
        cache_width=2 * (getattr(text, "num_key_value_heads", None) or heads) * head_dim,
        vocabulary=_size(config, "vocab_size"),
    )


def _without_memory(config: PretrainedConfig) -> PreTrainedModel:
    """The model of a configuration on PyTorch's meta device."""
    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config)
    except ValueError as error:
        raise PipelineError(
            f"model = {config.name_or_path}: transformers has no causal language model of the architecture "
            f"{config.model_type} ({first_line(error)[:LONGEST_REASON]}); choose a model that generates text"
        ) from error


def _size(config: PretrainedConfig, name: str) -> int:
    """A size of the language model; transformers' attribute_map translates `name` into the architecture's own name."""
    size = getattr(config.get_text_config(), name, None)
    if size is None:
        raise PipelineError(
            f"model = {config.name_or_path}: the memory of the architecture {config.model_type} cannot be planned, "
            f"since its configuration has no {name}; choose a model whose layers have attention"
        )
    return size
