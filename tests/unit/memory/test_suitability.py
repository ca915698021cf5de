"""Any architecture has a memory plan or one line that says why not, and a model that does not suit the configuration is
refused by its config.json alone, naming key, value and what to do.
"""

import re
from pathlib import Path

import pytest
from gsm8k_grpo.commands import plan as command
from gsm8k_grpo.commands.doctor import examine
from gsm8k_grpo.config.params import Params, load
from gsm8k_grpo.files import PipelineError, read_json, write_json
from gsm8k_grpo.memory import shapes, suitability
from project import ROOT
from transformers import AutoConfig

ATTENTION = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
SIZES = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "vocab_size": 400, **ATTENTION}
NEOX = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 400}
GPT2 = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 512, "vocab_size": 400}
EYE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28,
       "patch_size": 14}  # fmt: skip
LINEAR = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 16,
          "linear_value_head_dim": 16, "layer_types": ["linear_attention", "full_attention"]}  # fmt: skip
EXPERTS = SIZES | {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
LORA = {"rank": 2, "alpha": 2}


def model(folder: Path, kind: str, **sizes) -> str:
    """The folder of a model that has a config.json and nothing else."""
    AutoConfig.for_model(kind, **sizes).save_pretrained(folder)
    return str(folder)


def settings(model: str, **overrides) -> Params:
    return load(ROOT / "params.yaml", {"model": model} | {key.replace("__", "."): v for key, v in overrides.items()})


def refusal(params: Params) -> str:
    with pytest.raises(PipelineError) as stopped:
        suitability.require_suitable(params)
    assert "\n" not in str(stopped.value)
    return str(stopped.value)


@pytest.mark.parametrize(
    ("kind", "sizes", "heads_with_keys"),
    [
        ("gpt_neox", NEOX, 4),
        ("gpt2", GPT2, 4),
        ("gemma3", {"text_config": SIZES, "vision_config": EYE}, 2),
        ("qwen3_5_text", SIZES | LINEAR, 2),
    ],
)
def test_an_architecture_with_names_of_its_own_has_a_shape_and_a_plan(tmp_path, kind, sizes, heads_with_keys):
    name = model(tmp_path, kind, **sizes)
    shape = shapes.measure(shapes.config(name))
    assert (shape.hidden, shape.layers, shape.vocabulary) == (64, 2, 400)
    assert shape.intermediate == (256 if kind == "gpt2" else 96)
    assert shape.cache_width == 2 * heads_with_keys * 16
    params = settings(name, lora={**LORA, "targets": list(shape.projections)})
    assert "It fits; " in command.plan(params, gpu_gib=24)
    assert examine("tiny", lambda recipe: params).reasons == []


def test_an_adapter_of_gpt2_is_counted_on_its_transposed_matrices(tmp_path):
    shape = shapes.measure(shapes.config(model(tmp_path, "gpt2", **GPT2)))
    assert shape.projections["c_attn"] == shapes.Projection(2 * 64 * 192, 2 * (64 + 192))
    assert shape.projections["c_fc"] == shapes.Projection(2 * 64 * 256, 2 * (64 + 256))


def test_an_architecture_without_attention_is_said_to_have_no_plan(tmp_path):
    name = model(tmp_path, "mamba", hidden_size=16, num_hidden_layers=1, vocab_size=400, state_size=4)
    with pytest.raises(PipelineError, match=r"architecture mamba cannot be planned, .* no num_attention_heads; "):
        command.plan(settings(name), gpu_gib=24)
    (reason,) = examine("tiny", lambda recipe: settings(name)).reasons
    assert "mamba cannot be planned" in reason


def test_a_model_that_generates_no_text_is_refused_by_its_architecture(tmp_path):
    name = model(tmp_path, "vit", hidden_size=16, num_hidden_layers=1)
    with pytest.raises(PipelineError, match=r"no causal language model of the architecture vit [^\n]*$"):
        shapes.measure(shapes.config(name))


def test_quantised_weights_are_refused_before_a_plan(tmp_path):
    name = model(tmp_path, "qwen2", **SIZES)
    file = tmp_path / "config.json"
    write_json(file, read_json(file) | {"quantization_config": {"quant_method": "fp8"}})
    assert refusal(settings(name)).startswith(f"model = {name}: its weights are quantised (fp8, ")


def test_a_folder_that_is_not_there_is_not_looked_up_on_the_hub(tmp_path):
    assert refusal(settings(f"{tmp_path}/nowhere")).startswith(f"model = {tmp_path}/nowhere: no such folder; ")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"train__max_completion_length": 256}, "train.max_completion_length = 256: .* 256 tokens, .* less than 256"),
        ({"evaluate__max_completion_length": 300}, "evaluate.max_completion_length = 300: .* set less than 256"),
        ({"method": "sft", "sft__max_length": 300}, "sft.max_length = 300: .* set at most 256"),
        (
            {"engine": "vllm", "vllm": {"max_model_length": 512, "max_num_seqs": 8, "kv_cache_gib": 1, "sleep": False}},
            "vllm.max_model_length = 512: .* set at most 256",
        ),
        (
            {"engine": "vllm", "vllm": {"max_model_length": 100, "max_num_seqs": 8, "kv_cache_gib": 1, "sleep": False}},
            "train.max_completion_length = 160: vllm.max_model_length .100. leaves no room for a prompt",
        ),
    ],
)
def test_a_length_beyond_the_context_is_refused_by_its_key(tmp_path, overrides, message):
    name = model(tmp_path, "qwen2", **SIZES, max_position_embeddings=256)
    fitting = {"sft__max_length": 256}
    suitability.require_suitable(settings(name, **fitting))
    assert re.match(message, refusal(settings(name, **fitting | overrides)))


def test_a_padding_token_beyond_the_embeddings_is_refused(tmp_path):
    name = model(tmp_path, "qwen2", **SIZES, pad_token_id=400)
    assert refusal(settings(name)).startswith(f"model = {name}: pad_token_id = 400 in config.json, ")


@pytest.mark.parametrize("targets", [["qkv_proj"], ["q_proj", "qkv_proj"], ["all-linear"]])
def test_adapters_must_each_find_a_matrix(tmp_path, targets):
    name = model(tmp_path, "qwen2", **SIZES)
    message = refusal(settings(name, lora={**LORA, "targets": targets}))
    assert message.startswith(f"lora.targets = {targets[-1]}: the model has no such projection; choose from q_proj, ")


def test_packed_batches_of_a_mixture_of_experts_are_refused(tmp_path):
    name = model(tmp_path, "qwen3_moe", **EXPERTS)
    message = refusal(settings(name, train__share_prompts=True))
    assert message.startswith("train.share_prompts = true: ")
    assert message.endswith("set train.share_prompts: false")
    suitability.require_suitable(settings(name))
    suitability.require_suitable(settings(name, train__share_prompts=True, method="sft"))
