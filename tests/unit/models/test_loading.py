"""Models from outside are not trusted: pickles, code and damaged weights are refused, and no code of theirs runs.

Every trap creates a marker if it runs.
"""

import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from gsm8k_grpo.commands.provenance import noted
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
    """A pickle that creates the marker when it is read."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    """A small model without faults."""
    folder = tmp_path_factory.mktemp("sound")
    tokenizer = train_tokenizer([Document([], f"{number} pears") for number in range(50)], 300)
    shape = Architecture(vocabulary=300, hidden=8, intermediate=8, layers=1, heads=2, context=32)
    new_model(shape, tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    loading.load(loading.Source(str(folder)), PARAMS)
    return folder


def test_the_source_of_trained_weights_names_the_base_model_or_the_adapter(tmp_path):
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
    """Move the weights to `file`, and let an index say so."""
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


NOT_LOADED = "it could not be loaded ("
TAMPERED = {
    pickled_weights: NOT_LOADED + "Error no file named model.safetensors found in directory",
    pickle_under_another_name: NOT_LOADED + "Error while deserializing header: header too large)",
    torch_file_under_another_name: NOT_LOADED + "Error while deserializing header: header too large)",
    cut_weights: NOT_LOADED + "Error while deserializing header: incomplete metadata, file not fully covered)",
    empty_weights: NOT_LOADED + "Error while deserializing header: header too small)",
    lost_weight: "1 of its weights are missing or have another shape than config.json says, such as model.norm.weight;",
    wrong_shape: "3 of its weights are missing or have another shape than config.json says, such as model.layers.",
    code_for_a_known_model: "config.json has the key auto_map, ",
    code_for_an_unknown_model: "config.json has the key auto_map, ",
    code_for_the_tokenizer: "tokenizer_config.json has the key auto_map, ",
    index_to_another_folder: f"{INDEX} names ../elsewhere.safetensors; ",
    index_to_a_pickle: f"{INDEX} names weights.bin; ",
    config_to_a_pickle: "config.json has the key transformers_weights, ",
    adapter_of_another_model: "adapter_config.json has the key base_model_name_or_path, ",
    broken_config: NOT_LOADED + "Expecting property name enclosed in double quotes: line 1 column 2 (char 1))",
    broken_tokenizer: NOT_LOADED + "Expecting property name enclosed in double quotes: line 1 column 2 (char 1))",
}


def test_the_traps_work(model, marker):
    pickle.loads(pickle.dumps(Trap(marker)))
    assert marker.exists()
    marker.rmdir()
    exec((model / "code.py").read_text())
    assert marker.exists()


@pytest.mark.parametrize(("tamper", "reason"), TAMPERED.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_tampered_model_is_refused_in_one_line_and_none_of_its_code_runs(model, marker, tamper, reason):
    tamper(model, marker)
    with pytest.raises(PipelineError) as stopped:
        loading.load(loading.Source(str(model)), PARAMS)
    assert str(stopped.value).startswith(f"model = {model}: {reason}")
    assert "\n" not in str(stopped.value)
    assert not marker.exists()


@pytest.mark.parametrize("tamper", [code_for_a_known_model, code_for_the_tokenizer, index_to_a_pickle])
def test_a_model_of_the_hub_is_checked_too(model, marker, tmp_path, monkeypatch, tamper):
    """The model is in the hub's cache, which is filled before any file is read."""
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
def test_the_command_refuses_a_tampered_model_in_one_line_and_writes_nothing(
    cli, workdir, model, marker, stage, monkeypatch
):
    code_for_a_known_model(model, marker)
    monkeypatch.chdir(workdir)
    settings = {"model": "model", "train.prompts": 40, "evaluate.sets": {}}
    row = {"id": "x-0", "prompt": [{"role": "user", "content": "q"}], "question": "q", "answer": "7", "solution": "7"}
    with noted("extract", load(workdir / "params.yaml", settings)):
        for split in ("train", "test"):
            write_jsonl(workdir / "results" / "extract" / f"{split}.jsonl", [row] * 40)
    with noted("base", load(workdir / "params.yaml", settings)):
        write_json(workdir / "results" / "base" / "base.json", {"model": "model"})
    done = cli(*stage, *(f"--set={key}={value}" for key, value in settings.items()))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: model = model: config.json has the key auto_map")
    assert "Traceback" not in done.stderr
    assert not marker.exists()
    assert {path.name for path in (workdir / "results").iterdir()} == {"extract", "base"}


def test_a_completion_ends_where_the_chat_template_ends_a_turn(model):
    """A base model such as Qwen2.5 names another end token, which it never generates with its chat template."""
    edit(model / "tokenizer_config.json", eos_token="<|endoftext|>")
    tokenizer = loading.load_tokenizer(str(model))
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
    ends = [tokenizer.convert_tokens_to_ids(token) for token in ("<|im_end|>", "<|endoftext|>")]
    assert stop_tokens(tokenizer) == sorted(ends)
    for end in ends:
        assert not read_completion([40, 41, end, 42], tokenizer).truncated


def test_a_template_that_ends_turns_with_text_keeps_the_end_token(model):
    edit(model / "tokenizer_config.json", eos_token="<|endoftext|>")
    (model / "chat_template.jinja").write_text(
        "{% for message in messages %}{{ message['content'] + '\\n' }}{% endfor %}"
    )
    assert loading.load_tokenizer(str(model)).eos_token == "<|endoftext|>"


def test_an_adapter_is_read_only_from_safetensors(model, tmp_path):
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    torch.save({}, folder / "adapter_model.bin")
    with pytest.raises(PipelineError, match=r"adapter: .*no adapter_model\.safetensors"):
        loading.load(loading.Source(str(model), str(folder)), PARAMS)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(
    ("recipe", "reason"),
    [
        ("rtx4090", "engine = vllm: "),
        ("t4-chinese", "backend = unsloth: "),
        ("rtx3080", "precision = bfloat16: "),
    ],
)
def test_a_recipe_that_needs_a_gpu_is_refused_without_one(cli, recipe, reason):
    for stage in ("train --variant short", "evaluate --model base"):
        done = cli(*stage.split(), "--set", f"recipe={recipe}")
        assert done.returncode == 1
        line = done.stderr.splitlines()[-1]
        assert line.startswith(f"error: {reason}")
        assert "CUDA GPU" in line
