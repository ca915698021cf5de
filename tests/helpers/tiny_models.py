"""Tiny random models of many architectures, and a tokenizer of bytes for them."""

from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

END = "<|im_end|>"
TEMPLATE = (
    "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
WINDOW = 16  # tokens of a sliding window
MIXED = ["sliding_attention", "full_attention"]
LLAMA = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 512,
}  # fmt: skip
MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8}
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4}
NO_DROPOUT = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
GEMMA = {"sliding_window": WINDOW, "query_pre_attn_scalar": 8, "layer_types": MIXED}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}

# Name -> transformers' name of the architecture and the keys of its configuration.
ACCEPTED: dict[str, tuple[str, dict[str, Any]]] = {
    "cohere": ("cohere", LLAMA | {"logit_scale": 0.0625}),
    "cohere2": ("cohere2", LLAMA | {"logit_scale": 0.0625, "sliding_window": WINDOW, "layer_types": MIXED}),
    "gemma2": ("gemma2", LLAMA | GEMMA | {"final_logit_softcapping": 5.0, "attn_logit_softcapping": 5.0}),
    "gemma3": ("gemma3_text", LLAMA | GEMMA),
    "gemma3 with a soft cap": ("gemma3_text", LLAMA | GEMMA | {"final_logit_softcapping": 5.0}),
    "glm4": ("glm4", LLAMA),
    "gpt2": ("gpt2", GPT | NO_DROPOUT),
    "gpt_neox": ("gpt_neox", LLAMA),
    "granite": ("granite", LLAMA | {"logits_scaling": 8.0, "attention_multiplier": 0.06, "residual_multiplier": 0.3}),
    "llama": ("llama", LLAMA),
    "mistral with a window": ("mistral", LLAMA | {"sliding_window": WINDOW}),
    "olmo2": ("olmo2", LLAMA),
    "olmo3": ("olmo3", LLAMA | {"sliding_window": WINDOW, "layer_types": MIXED}),
    "opt": ("opt", LLAMA | {"ffn_dim": 48, "word_embed_proj_dim": 32, "dropout": 0.0}),
    "phi": ("phi", LLAMA),
    "phi3": ("phi3", LLAMA | {"sliding_window": None}),
    "phi3 with a window": ("phi3", LLAMA | {"sliding_window": WINDOW}),
    "qwen2": ("qwen2", LLAMA),
    "qwen2 with a window": (
        "qwen2",
        LLAMA | {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1},
    ),
    "qwen3": ("qwen3", LLAMA),
    "smollm3": ("smollm3", LLAMA | {"no_rope_layers": [1, 0]}),
    "stablelm": ("stablelm", LLAMA),
    "starcoder2": (
        "starcoder2",
        LLAMA | {"sliding_window": WINDOW, "residual_dropout": 0.0, "embedding_dropout": 0.0},
    ),
}
# The same with a word of the reason why packed batches refuse the model.
REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "bamba": ("bamba", LLAMA | MAMBA | {"attn_layer_indices": [1]}, "recurrent"),
    "bloom": ("bloom", {"hidden_size": 32, "n_layer": 2, "n_head": 4}, "forward pass"),
    "falcon_h1": ("falcon_h1", LLAMA | MAMBA | {"mamba_d_ssm": 64, "mamba_chunk_size": 32}, "recurrent"),
    "gpt_oss": ("gpt_oss", LLAMA | EXPERTS | {"sliding_window": WINDOW, "layer_types": MIXED}, "experts"),
    "jamba": (
        "jamba",
        LLAMA | {"attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 1, "use_mamba_kernels": False},
        "experts",
    ),
    "lfm2": ("lfm2", LLAMA | {"layer_types": ["conv", "full_attention"]}, "convolutional"),
    "mamba2": (
        "mamba2",
        {"hidden_size": 32, "num_hidden_layers": 2, "num_heads": 8, "head_dim": 8, "state_size": 8, "n_groups": 1},
        "recurrent",
    ),
    "mixtral": ("mixtral", LLAMA | EXPERTS, "experts"),
    "qwen3_5": (
        "qwen3_5_text",
        LLAMA | {
            "layer_types": ["linear_attention", "full_attention"], "linear_num_key_heads": 2,
            "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
        },
        "recurrent",
    ),
    "qwen3_moe": (
        "qwen3_moe",
        LLAMA | {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
        "experts",
    ),
    "recurrent_gemma": (
        "recurrent_gemma",
        LLAMA | {"attention_window_size": WINDOW, "lru_width": 32, "block_types": ["recurrent", "attention"]},
        "recurrent",
    ),
}  # fmt: skip


def tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte, an end token that also pads, and a chat template."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    bytes_only = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate([END, *letters])}, merges=[]))
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_only.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=bytes_only, eos_token=END, pad_token=END, padding_side="left")
    fast.chat_template = TEMPLATE
    settled: Any = fast
    settled.end_tokens = settled.stop_tokens = [fast.eos_token_id]  # as loading.load_tokenizer sets them
    return fast


def build(kind: str, attention: str = "eager", **keys: Any) -> PreTrainedModel:
    """A model of an architecture, with weights so large that a token's probability depends on the tokens before it."""
    common = {"vocab_size": len(tokenizer()), "eos_token_id": 0, "bos_token_id": 0, "pad_token_id": 0}
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **common | keys)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() >= 2 and "norm" not in name and "A_log" not in name:
                weight.normal_(0, 0.25)
    return model.eval()
