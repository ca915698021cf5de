"""A model from outside is not trusted: pickles, code and damaged weights are refused, and nothing of it is run.

Every trap leaves a marker where it is run.
"""

import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from gsm8k_grpo.config.params import load
from gsm8k_grpo.config.sections import Architecture
from gsm8k_grpo.files import PipelineError, read_json, write_json, write_jsonl
from gsm8k_grpo.models import loading
from gsm8k_grpo.models.engine import read_completion, stop_tokens
from gsm8k_grpo.stages.base.corpus import Document
from gsm8k_grpo.stages.base.pretraining import new_model
from gsm8k_grpo.stages.base.tokenizer import train_tokenizer
from project import ROOT
from safetensors.torch import load_file, save_file

PARAMS = load(ROOT / "params.yaml")
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
CODE = "from pathlib import Path\nPath({marker!r}).touch()\nfrom transformers import Qwen2ForCausalLM as Model\n"
AUTO_MAP = {"AutoModelForCausalLM": "code.Model", "AutoTokenizer": ["code.Model", "code.Model"]}


class Trap:
    """A pickle that makes the marker when it is read."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    """A small model that is as it should be."""
    folder = tmp_path_factory.mktemp("sound")
    tokenizer = train_tokenizer([Document([], f"{number} pears") for number in range(50)], 300)
    shape = Architecture(vocabulary=300, hidden=8, intermediate=8, layers=1, heads=2, context=32)
    new_model(shape, tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    loading.load(loading.Source(str(folder)), PARAMS)
    return folder


def test_what_was_trained_is_found_with_the_base_that_it_began_as(tmp_path):
    assert loading.source("base", None) == loading.Source("base")
    assert loading.source("base", tmp_path) == loading.Source(str(tmp_path), base="base")
    (tmp_path / "adapter_config.json").touch()
    assert loading.source("base", tmp_path) == loading.Source("base", adapter=str(tmp_path))


@pytest.fixture
def model(sound, tmp_path) -> Path:
    shutil.copytree(sound, tmp_path / "model")
    (tmp_path / "model" / "code.py").write_text(CODE.format(marker=str(tmp_path / "marker")))
    return tmp_path / "model"


@pytest.fixture
def marker(tmp_path) -> Path:
    return tmp_path / "marker"


def edit(path: Path, **keys) -> None:
    write_json(path, (read_json(path) if path.exists() else {}) | keys)


def index(model: Path, file: str) -> None:
    """Let the weights stand in `file`, as an index says."""
    keys = list(load_file(model / WEIGHTS))
    write_json(model / INDEX, {"metadata": {}, "weight_map": dict.fromkeys(keys, file)})
    shutil.move(model / WEIGHTS, model / file)


def pickled_weights(model, marker):
    (model / WEIGHTS).unlink()
    torch.save({"weight": Trap(marker)}, model / "pytorch_model.bin")


def pickle_under_another_name(model, marker):
    (model / WEIGHTS).write_bytes(pickle.dumps(Trap(marker)))


def torch_file_under_another_name(model, marker):
    torch.save({"weight": Trap(marker)}, model / WEIGHTS)


def cut_weights(model, marker):
    os.truncate(model / WEIGHTS, (model / WEIGHTS).stat().st_size - 1)


def empty_weights(model, marker):
    os.truncate(model / WEIGHTS, 0)


def lost_weight(model, marker):
    weights = load_file(model / WEIGHTS)
    del weights["model.norm.weight"]
    save_file(weights, model / WEIGHTS, metadata={"format": "pt"})


def wrong_shape(model, marker):
    edit(model / "config.json", intermediate_size=16)


def code_for_a_known_model(model, marker):
    edit(model / "config.json", auto_map=AUTO_MAP)


def code_for_an_unknown_model(model, marker):
    edit(model / "config.json", auto_map=AUTO_MAP, model_type="unknown")


def code_for_the_tokenizer(model, marker):
    edit(model / "tokenizer_config.json", auto_map=AUTO_MAP)


def index_to_another_folder(model, marker):
    index(model, "../elsewhere.safetensors")


def index_to_a_pickle(model, marker):
    index(model, "weights.bin")
    torch.save({"weight": Trap(marker)}, model / "weights.bin")


def config_to_a_pickle(model, marker):
    edit(model / "config.json", transformers_weights="adapter_model.bin")
    torch.save({"weight": Trap(marker)}, model / "adapter_model.bin")


def adapter_of_another_model(model, marker):
    edit(model / "adapter_config.json", peft_type="LORA", base_model_name_or_path="other/model")


def broken_config(model, marker):
    (model / "config.json").write_text("{")


def broken_tokenizer(model, marker):
    (model / "tokenizer.json").write_text("{")


RUNS = "which makes a model run its own code or load files of its choice; give a model of an architecture that "
NOT_LOADED = "it could not be loaded ("
TAMPERED = {
    pickled_weights: NOT_LOADED + "Error no file named model.safetensors found in directory",
    pickle_under_another_name: NOT_LOADED + "Error while deserializing header: header too large)",
    torch_file_under_another_name: NOT_LOADED + "Error while deserializing header: header too large)",
    cut_weights: NOT_LOADED + "Error while deserializing header: incomplete metadata, file not fully covered)",
    empty_weights: NOT_LOADED + "Error while deserializing header: header too small)",
    lost_weight: "1 of its weights are missing or of another shape than config.json says, such as model.norm.weight;",
    wrong_shape: "3 of its weights are missing or of another shape than config.json says, such as model.layers.0.mlp.",
    code_for_a_known_model: "config.json has the key auto_map, " + RUNS,
    code_for_an_unknown_model: "config.json has the key auto_map, " + RUNS,
    code_for_the_tokenizer: "tokenizer_config.json has the key auto_map, " + RUNS,
    index_to_another_folder: f"{INDEX} names ../elsewhere.safetensors; weights are read from safetensors files of ",
    index_to_a_pickle: f"{INDEX} names weights.bin; weights are read from safetensors files of ",
    config_to_a_pickle: "config.json has the key transformers_weights, " + RUNS,
    adapter_of_another_model: "adapter_config.json has the key base_model_name_or_path, " + RUNS,
    broken_config: NOT_LOADED + "Expecting property name enclosed in double quotes: line 1 column 2 (char 1))",
    broken_tokenizer: NOT_LOADED + "Expecting property name enclosed in double quotes: line 1 column 2 (char 1))",
}


def test_the_traps_work(model, marker):
    pickle.loads(pickle.dumps(Trap(marker)))
    assert marker.exists()
    marker.rmdir()
    exec((model / "code.py").read_text())
    assert marker.exists()


@pytest.mark.parametrize(("tamper", "said"), TAMPERED.items(), ids=lambda one: getattr(one, "__name__", ""))
def test_a_tampered_model_is_refused_in_one_line_and_nothing_of_it_is_run(model, marker, tamper, said):
    tamper(model, marker)
    with pytest.raises(PipelineError) as stopped:
        loading.load(loading.Source(str(model)), PARAMS)
    assert str(stopped.value).startswith(f"model = {model}: {said}")
    assert "\n" not in str(stopped.value)
    assert not marker.exists()


@pytest.mark.parametrize("tamper", [code_for_a_known_model, code_for_the_tokenizer, index_to_a_pickle])
def test_a_model_of_the_hub_is_looked_through_too(model, marker, tmp_path, monkeypatch, tamper):
    """The hub's cache, which is filled before any file is read, holds the model."""
    repository = tmp_path / "hub" / "models--tests--model"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    shutil.copytree(model, repository / "snapshots" / "abc")
    loading.load(loading.Source("tests/model"), PARAMS)

    tamper(repository / "snapshots" / "abc", marker)
    with pytest.raises(PipelineError, match=r"^model = tests/model: \S+ (has the key auto_map|names weights\.bin)"):
        loading.load(loading.Source("tests/model"), PARAMS)
    assert not marker.exists()


@pytest.mark.parametrize("stage", [["train", "--variant", "short"], ["evaluate", "--model", "base"]])
def test_by_hand_a_tampered_model_is_one_line_and_nothing_is_written(cli, workdir, model, marker, stage):
    code_for_a_known_model(model, marker)
    row = {"id": "x-0", "prompt": [{"role": "user", "content": "q"}], "question": "q", "answer": "7", "solution": "7"}
    for split in ("train", "test"):
        write_jsonl(workdir / "results" / "extract" / f"{split}.jsonl", [row] * 40)
    write_json(workdir / "results" / "base" / "base.json", {"model": "model"})
    done = cli(*stage, "--set=model=model", "--set=train.prompts=40", "--set=evaluate.sets={}")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: model = model: config.json has the key auto_map")
    assert "Traceback" not in done.stderr
    assert not marker.exists()
    assert {path.name for path in (workdir / "results").iterdir()} == {"extract", "base"}


def test_a_completion_ends_where_the_chat_template_ends_a_turn(model):
    """A base model such as Qwen2.5 names another end token, which it never gives under its chat template."""
    edit(model / "tokenizer_config.json", eos_token="<|endoftext|>")
    tokenizer = loading.load_tokenizer(str(model))
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
    ends = [tokenizer.convert_tokens_to_ids(token) for token in ("<|im_end|>", "<|endoftext|>")]
    assert stop_tokens(tokenizer) == sorted(ends)
    for end in ends:
        assert not read_completion([40, 41, end, 42], tokenizer).truncated


def test_a_template_that_ends_turns_with_text_leaves_the_end_token(model):
    edit(model / "tokenizer_config.json", eos_token="<|endoftext|>")
    (model / "chat_template.jinja").write_text(
        "{% for message in messages %}{{ message['content'] + '\\n' }}{% endfor %}"
    )
    assert loading.load_tokenizer(str(model)).eos_token == "<|endoftext|>"


def test_an_adapter_is_read_from_safetensors_alone(model, tmp_path):
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    torch.save({}, folder / "adapter_model.bin")
    with pytest.raises(PipelineError, match=r"holds no adapter_model\.safetensors; adapters are read from safetensors"):
        loading.load(loading.Source(str(model), str(folder)), PARAMS)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA card")
@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ("rtx4090", "engine = vllm: needs a CUDA card"),
        ("t4-chinese", "backend = unsloth: "),
        ("rtx3080", "precision = bfloat16: needs a CUDA card"),
    ],
)
def test_a_recipe_for_a_card_is_refused_without_one(cli, recipe, said):
    for stage in ("train --variant short", "evaluate --model base"):
        done = cli(*stage.split(), "--set", f"recipe={recipe}")
        assert done.returncode == 1
        line = done.stderr.splitlines()[-1]
        assert line.startswith(f"error: {said}")
        assert "CUDA card" in line
