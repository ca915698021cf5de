"""A model folder is loaded right, or refused in one line that names what is wrong: quantised weights, weights without a
place, adapters, paths without a folder, tokens without an embedding.  A model's own settings of sampling and dropout do
not apply.
"""

import re
from pathlib import Path

import pytest
import torch
from gsm8k_grpo.config.params import load
from gsm8k_grpo.config.sections import Lora
from gsm8k_grpo.files import PipelineError, read_json, write_json
from gsm8k_grpo.memory import shapes
from gsm8k_grpo.models import loading, refusals
from gsm8k_grpo.stages.base.corpus import Document
from gsm8k_grpo.stages.base.tokenizer import train_tokenizer
from project import ROOT
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

PARAMS = load(ROOT / "params.yaml")
WEIGHTS = "model.safetensors"
SIZES = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64,
}  # fmt: skip
GPT2 = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}


def made(folder: Path, kind: str = "qwen2", **sizes) -> Path:
    """A model with random weights in `folder`, with a tokenizer whose tokens all have an embedding."""
    tokenizer = train_tokenizer([Document([], f"{number} pears") for number in range(50)], 300)
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    sizes = {"vocab_size": len(tokenizer)} | (GPT2 if kind == "gpt2" else SIZES) | ids | sizes
    AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **sizes)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def model(tmp_path) -> Path:
    return made(tmp_path / "model")


def edit(path: Path, **keys) -> None:
    write_json(path, (read_json(path) if path.exists() else {}) | keys)


def refusal(name: Path | str) -> str:
    """The message with which a model is refused, without its beginning `model = NAME: `."""
    with pytest.raises(PipelineError) as stopped:
        loading.load(loading.Source(str(name)), PARAMS)
    beginning, message = f"model = {name}: ", str(stopped.value)
    assert message.startswith(beginning)
    assert "\n" not in message
    return message.removeprefix(beginning)


@pytest.mark.parametrize(
    "method", ["fp8", "gptq", "awq", "compressed-tensors", "mxfp4", "bitsandbytes", "one of the future"]
)
def test_quantised_weights_are_refused_by_their_method_and_the_unquantised_model_is_recommended(model, method):
    edit(model / "config.json", quantization_config={"quant_method": method})
    assert re.match(rf"its weights are quantised \({method}, .* take the unquantised model", refusal(model))


@pytest.mark.parametrize(
    ("settings", "method"),
    [
        ({"quantization_config": {"load_in_4bit": True}}, "bitsandbytes"),
        ({"compression_config": {"quant_method": "sparseml"}}, "sparseml"),
        ({"text_config": {"quantization_config": {"quant_method": "fp8"}}}, "fp8"),
    ],
)
def test_quantised_weights_are_recognised_in_older_and_nested_settings(model, settings, method):
    edit(model / "config.json", **settings)
    assert refusal(model).startswith(f"its weights are quantised ({method}, ")


def test_weights_in_8_bit_with_scales_are_refused_even_if_config_json_is_silent(model):
    weights = load_file(model / WEIGHTS)
    name = "model.layers.0.self_attn.q_proj.weight"
    scale = weights[name].abs().max() / 448
    weights[name] = (weights[name] / scale).to(torch.float8_e4m3fn)
    weights[f"{name}_scale_inv"] = scale.reshape(1, 1)
    save_file(weights, model / WEIGHTS, metadata={"format": "pt"})
    assert refusal(model).startswith(
        f"1 weights of its files have no place in the model of config.json, such as {name}_"
    )


def test_a_weight_that_an_architecture_declares_ignorable_is_no_fault(tmp_path):
    """Old GPT-2 files hold their causal mask, which transformers builds itself."""
    folder = made(tmp_path / "model", "gpt2")
    mask = {"transformer.h.0.attn.bias": torch.ones(1, 1, 64, 64)}
    save_file(load_file(folder / WEIGHTS) | mask, folder / WEIGHTS, metadata={"format": "pt"})
    loading.load(loading.Source(str(folder)), PARAMS)


def test_a_tied_head_may_be_missing(tmp_path):
    folder = made(tmp_path / "model", tie_word_embeddings=True)
    assert "lm_head.weight" not in load_file(folder / WEIGHTS)
    loading.load(loading.Source(str(folder)), PARAMS)


def test_of_the_generation_settings_only_token_ids_stay(model, tmp_path):
    leaking = {
        "min_p": 0.2, "suppress_tokens": [5], "no_repeat_ngram_size": 2, "num_beams": 3, "repetition_penalty": 1.3,
        "top_k": 3, "top_p": 0.5, "bad_words_ids": [[7]], "max_new_tokens": 2, "do_sample": True,
    }  # fmt: skip
    write_json(model / "generation_config.json", {"eos_token_id": [2, 3], "pad_token_id": 0, **leaking})
    loaded, _ = loading.load(loading.Source(str(model)), PARAMS)
    assert loaded.generation_config.to_diff_dict().keys() <= {"eos_token_id", "pad_token_id", "transformers_version"}
    assert loaded.generation_config.eos_token_id == [2, 3]
    assert not any(getattr(loaded.generation_config, name) == value for name, value in leaking.items())


@pytest.mark.parametrize("file", ["generation_config.json", "config.json"])
def test_generation_settings_that_contradict_each_other_do_not_prevent_saving(model, tmp_path, file):
    if file == "config.json":
        (model / "generation_config.json").unlink()
    edit(model / file, do_sample=False, temperature=0.6)
    loaded, _ = loading.load(loading.Source(str(model)), PARAMS)
    loaded.save_pretrained(tmp_path / "saved")
    assert GenerationConfig.from_pretrained(tmp_path / "saved").temperature is None


@pytest.mark.parametrize(
    ("kind", "rates"),
    [
        ("qwen2", {"attention_dropout": 0.5}),
        ("gpt2", {"attn_pdrop": 0.5, "resid_pdrop": 0.5, "embd_pdrop": 0.5}),
        ("gpt_neox", {"attention_dropout": 0.5, "hidden_dropout": 0.5}),
    ],
)
def test_a_model_computes_the_same_in_training_twice_whatever_dropout_it_names(tmp_path, kind, rates):
    folder = made(tmp_path / "model", kind, **rates)
    ids = torch.tensor([[5, 6, 7, 8]])
    with_dropout = AutoModelForCausalLM.from_pretrained(folder).train()
    assert not torch.equal(with_dropout(ids).logits, with_dropout(ids).logits)
    loaded, _ = loading.load(loading.Source(str(folder)), PARAMS)
    loaded.train()
    assert torch.equal(loaded(ids).logits, loaded(ids).logits)


def test_an_adapter_is_named_as_such_with_its_base_and_what_to_do(model, tmp_path):
    loaded, _ = loading.load(loading.Source(str(model)), PARAMS)
    loading.adapt(loaded, Lora(rank=2, alpha=2, targets=["q_proj"])).save_pretrained(tmp_path / "adapter")
    message = refusal(tmp_path / "adapter")
    assert message.startswith(f"is an adapter for {model}, not a model; ")
    assert "gsm8k-grpo export" in message


def test_a_path_without_a_folder_is_not_taken_for_a_name_on_the_hub(tmp_path):
    for path in (tmp_path / "nowhere", "./nowhere", "../nowhere/", "nowhere/", "nowhere/of/all"):
        assert refusal(path).startswith("no such folder; ")
    for name in ("gpt2", "Qwen/Qwen2.5-1.5B"):
        refusals.refuse_missing(name)


def test_a_tilde_is_refused_since_it_is_not_expanded():
    assert refusal("~/models/mine").startswith("~ is not expanded; write the whole path")


def test_a_file_is_refused_with_the_hint_to_its_folder(model):
    assert refusal(model / WEIGHTS).startswith("is a file; name the folder ")


@pytest.mark.parametrize("role", ["pad", "eos"])
def test_a_token_beyond_the_embeddings_is_refused_with_its_id(model, role):
    tokenizer = loading.load_tokenizer(str(model))
    embeddings = len(tokenizer)
    tokenizer.add_special_tokens({f"{role}_token": "<|new|>"})
    if role == "eos":
        tokenizer.chat_template = "{% for message in messages %}{{ message['content'] + '<|new|>' }}{% endfor %}"
    tokenizer.save_pretrained(model)
    message = refusal(model)
    assert message.startswith(f"{role}_token <|new|> of its tokenizer has the id {embeddings}, ")
    assert f"only {embeddings} embeddings" in message


@pytest.mark.parametrize("read", [lambda: shapes.config("models/mine"), lambda: loading.load_tokenizer("models/mine")])
def test_a_name_that_may_be_a_folder_is_told_as_neither_of_the_two(read, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        PipelineError, match=rf"model = models/mine: .*, and there is no folder {Path.cwd()}/models/mine\. "
    ):
        read()
