"""`gsm8k-grpo export`: a variant's model for other programs, complete or absent."""

import shutil
from pathlib import Path

import pytest
import torch
from gsm8k_grpo.commands.export import CONVERTER, _new_folder, export
from gsm8k_grpo.config.params import Params, load
from gsm8k_grpo.files import PipelineError, read_json, write_json
from peft import PeftModel
from project import ROOT
from small_run import FEW, run
from transformers import AutoModelForCausalLM, AutoTokenizer

LORA = {"lora": "{rank: 4, alpha: 8, targets: [q_proj, up_proj]}", "train.learning_rate": "1e-2"}


@pytest.fixture(scope="module")
def few() -> Params:
    return load(ROOT / "params.yaml", FEW | {"keep_checkpoints": [9]})


@pytest.fixture(scope="module")
def adapted(prepared, tmp_path_factory) -> Path:
    """The folder in which short was trained as an adapter."""
    folder = shutil.copytree(prepared, tmp_path_factory.mktemp("adapted") / "p")
    return run(folder, "train --variant short", **{key.replace(".", "__"): value for key, value in LORA.items()})


def logits(model) -> torch.Tensor:
    with torch.inference_mode():
        return model(torch.arange(20, 60)[None]).logits


def saved(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_model_without_an_adapter_is_exported_as_it_is(uninterrupted, few, tmp_path, monkeypatch):
    monkeypatch.chdir(uninterrupted)
    target = tmp_path / "new" / "full"
    files = export("short", "merged", Path("results"), target, few)
    assert {path.name for path in files} == saved(target) >= {"config.json", "model.safetensors", "chat_template.jinja"}
    trained = uninterrupted / "results/train/short/model"
    assert (target / "model.safetensors").read_bytes() == (trained / "model.safetensors").read_bytes()
    assert saved(tmp_path / "new") == {"full"}


def test_an_adapter_is_merged_into_the_weights_that_it_was_trained_on(adapted, few, tmp_path, monkeypatch):
    monkeypatch.chdir(adapted)
    export("short", "merged", Path("results"), tmp_path / "merged", few)
    assert not (tmp_path / "merged/adapter_model.safetensors").exists()
    merged = logits(AutoModelForCausalLM.from_pretrained(tmp_path / "merged"))
    base = AutoModelForCausalLM.from_pretrained("results/base/model")
    assert not torch.allclose(merged, logits(base), atol=1e-3)
    torch.testing.assert_close(merged, logits(PeftModel.from_pretrained(base, "results/train/short/model")))


def test_other_programs_stop_where_training_did(adapted, few, tmp_path, monkeypatch):
    monkeypatch.chdir(adapted)
    export("short", "merged", Path("results"), tmp_path / "merged", few)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert tokenizer.apply_chat_template([{"role": "user", "content": "?"}], tokenize=False).endswith("<|im_end|>\n")
    ends = tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>"])
    assert read_json(tmp_path / "merged/generation_config.json")["eos_token_id"] == ends


def test_an_exported_model_keeps_every_end_token_of_the_base_model(adapted, few, tmp_path, monkeypatch):
    folder = shutil.copytree(adapted, tmp_path / "p")
    settings = folder / "results/base/model/generation_config.json"
    write_json(settings, read_json(settings) | {"eos_token_id": [2, 40, 50]})
    monkeypatch.chdir(folder)
    export("short", "merged", Path("results"), tmp_path / "merged", few)
    assert read_json(tmp_path / "merged/generation_config.json")["eos_token_id"] == [0, 2, 40, 50]


def test_an_adapter_is_exported_as_it_was_trained(adapted, few, tmp_path, monkeypatch):
    monkeypatch.chdir(adapted)
    export("short", "adapter", Path("results"), tmp_path / "adapter", few)
    trained = Path("results/train/short/model")
    assert {path.name: path.read_bytes() for path in (tmp_path / "adapter").iterdir()} == {
        path.name: path.read_bytes() for path in trained.iterdir() if not path.name.startswith(".")
    }


def test_a_variant_without_an_adapter_has_none_to_export(uninterrupted, few, tmp_path, monkeypatch):
    monkeypatch.chdir(uninterrupted)
    with pytest.raises(PipelineError, match=r"^--format adapter: .*short.*choose from merged, gguf$"):
        export("short", "adapter", Path("results"), tmp_path / "adapter", few)
    assert saved(tmp_path) == set()


def test_a_folder_that_is_not_empty_is_left_alone(uninterrupted, few, tmp_path, monkeypatch):
    monkeypatch.chdir(uninterrupted)
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(PipelineError, match=rf"^--to {tmp_path}: .*empty"):
        export("short", "merged", Path("results"), tmp_path, few)
    assert saved(tmp_path) == {"mine.txt"}


def test_nothing_of_the_user_is_touched_next_to_the_export(uninterrupted, few, tmp_path, monkeypatch):
    monkeypatch.chdir(uninterrupted)
    (tmp_path / "out.part").mkdir()
    (tmp_path / "out.part/mine.txt").write_text("mine")
    (tmp_path / "out").mkdir()
    export("short", "merged", Path("results"), tmp_path / "out", few)
    assert (tmp_path / "out.part/mine.txt").read_text() == "mine"
    assert saved(tmp_path) == {"out.part", "out"}


def test_files_that_appear_in_the_folder_during_the_export_stay(tmp_path):
    with pytest.raises(PipelineError, match="is not empty any more"), _new_folder(tmp_path / "out"):  # noqa: PT012
        (tmp_path / "out").mkdir()
        (tmp_path / "out/mine.txt").write_text("mine")
    assert saved(tmp_path) == {"out"}
    assert saved(tmp_path / "out") == {"mine.txt"}


def test_a_link_is_refused_before_the_work(few, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to("real")
    with pytest.raises(PipelineError, match=rf"^--to {tmp_path}/out: is a link"):
        export("short", "merged", tmp_path / "no results", tmp_path / "out", few)
    assert saved(tmp_path / "real") == set()


@pytest.mark.parametrize(
    ("option", "value", "allowed"), [("variant", "long", "short, full"), ("format", "onnx", "merged, adapter, gguf")]
)
def test_an_unknown_choice_is_an_error_that_lists_the_choices(cli, option, value, allowed):
    options = {"variant": "short", "format": "merged", "to": "x"} | {option: value}
    done = cli("export", *(f"--{name}={choice}" for name, choice in options.items()))
    assert (done.returncode, done.stderr) == (1, f"error: --{option} {value}: choose from {allowed}\n")


def test_an_untrained_variant_is_an_error_that_says_how_to_train_it(cli, uninterrupted, workdir):
    (workdir / "results").symlink_to(uninterrupted / "results")
    done = cli("export", "--variant", "full", "--format", "merged", "--to", "x")
    assert done.returncode == 1
    assert "results/train/full/model: no such folder" in done.stderr
    assert "`gsm8k-grpo train --variant full`" in done.stderr


# GGUF, by llama.cpp's converter


def test_without_the_converter_the_error_says_where_to_get_it(uninterrupted, few, tmp_path, monkeypatch):
    monkeypatch.chdir(uninterrupted)
    monkeypatch.delenv("LLAMA_CPP", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(PipelineError, match=rf"{CONVERTER} .*PATH.* https://github\.com/ggml-org/llama\.cpp"):
        export("short", "gguf", Path("results"), tmp_path / "gguf", few)
    monkeypatch.setenv("LLAMA_CPP", "/nowhere")
    with pytest.raises(PipelineError, match=rf"{CONVERTER} .*/nowhere"):
        export("short", "gguf", Path("results"), tmp_path / "gguf", few)
    assert saved(tmp_path) == set()


def test_an_error_of_the_converter_is_shown_and_nothing_is_written(uninterrupted, few, tmp_path, monkeypatch):
    """A fake converter fails as the real one does with a tokenizer that llama.cpp does not know."""
    monkeypatch.chdir(uninterrupted)
    (tmp_path / CONVERTER).write_text("raise NotImplementedError('BPE pre-tokenizer was not recognized')\n")
    monkeypatch.setenv("LLAMA_CPP", str(tmp_path))
    with pytest.raises(PipelineError, match=r"convert short:(.|\n)*NotImplementedError: BPE pre-tokenizer"):
        export("short", "gguf", Path("results"), tmp_path / "gguf", few)
    assert saved(tmp_path) == {CONVERTER}
