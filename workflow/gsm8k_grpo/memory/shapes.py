"""Shapes of models: the number of weights and the sizes of their matrices, without downloading the model.

The models of the published recipes are in a table here, copied from their config.json files.  The config.json of any
other model is read from its folder or from the hub.  Weights are counted on transformers' own model, built without
memory.
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.config.sections import Architecture, Lora
from gsm8k_grpo.files import PipelineError, first_line


def _sizes(
    hidden: int, intermediate: int, layers: int, heads: int, kv_heads: int, vocabulary: int, tied: bool
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
        "max_position_embeddings": 32768,
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
    "meta-llama/Llama-3.2-1B-Instruct": ("llama", _sizes(2048, 8192, 16, 32, 8, 128256, tied=True)),
    "unsloth/phi-4": ("llama", _sizes(5120, 17920, 40, 40, 10, 100352, tied=False)),
    "microsoft/phi-4": ("phi3", _sizes(5120, 17920, 40, 40, 10, 100352, tied=False)),
}


@dataclass(frozen=True)
class Projection:
    """A linear map that every layer has, such as q_proj: the sum over layers of its weights, and of its n + m.

    `ends` is that sum of inputs and outputs, n + m for a map from n to m.
    """

    weights: int
    ends: int


@dataclass(frozen=True)
class Shape:
    """The sizes that memory depends on; `cache_width` is the number of keys and values per token and layer."""

    parameters: int
    projections: dict[str, Projection]
    hidden: int
    intermediate: int
    layers: int
    cache_width: int
    vocabulary: int

    @property
    def projected(self) -> int:
        """The number of weights in projections, which are those that 4-bit quantisation applies to."""
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
    """The shape of a configuration's model."""
    if params.model == "scratch" and params.base:
        return measure(scratch_config(params.base.architecture))
    return measure(config(params.model))


def config(model: str) -> PretrainedConfig:
    """transformers' configuration of a published model, or of one in a folder or on the hub.

    Raises:
        PipelineError: if its config.json cannot be read.
    """
    if model in PUBLISHED:
        kind, sizes = PUBLISHED[model]
        return AutoConfig.for_model(kind, **sizes)
    try:
        return AutoConfig.from_pretrained(model, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise PipelineError(
            f"model = {model}: its config.json could not be read ({first_line(error)}). "
            f"Give a folder that has one, or a model whose shape is built in: {', '.join(PUBLISHED)}"
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
    )
    return AutoConfig.for_model("qwen2", **sizes)


def measure(config: PretrainedConfig) -> Shape:
    """The shape of the model that transformers builds from a configuration."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    weights: dict[str, int] = defaultdict(int)
    ends: dict[str, int] = defaultdict(int)
    for name, module in model.base_model.named_modules():  # without the head, which is never quantised or adapted
        if isinstance(module, torch.nn.Linear):
            projection = name.rpartition(".")[2]
            weights[projection] += module.weight.numel()
            ends[projection] += module.in_features + module.out_features
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return Shape(
        parameters=model.num_parameters(),
        projections={name: Projection(weights[name], ends[name]) for name in weights},
        hidden=config.hidden_size,
        intermediate=config.intermediate_size,
        layers=config.num_hidden_layers,
        cache_width=2 * config.num_key_value_heads * head_dim,
        vocabulary=config.vocab_size,
    )
