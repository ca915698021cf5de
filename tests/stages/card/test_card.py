"""The model card: its metadata for the hub, its accuracies, and its snippets, which run unchanged."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from chats import chat
from gsm8k_grpo.commands.export import export
from gsm8k_grpo.config.params import Params, load, recipes
from gsm8k_grpo.gsm8k.prompts import EXAMPLE
from gsm8k_grpo.models import loading
from gsm8k_grpo.stages.card import licences
from gsm8k_grpo.stages.card.stage import card
from gsm8k_grpo.stages.evaluate import answering
from huggingface_hub import ModelCard
from project import ROOT
from sample_results import write_results
from small_run import FEW, run

LORA = "{rank: 4, alpha: 8, targets: [q_proj, up_proj]}"


def settings(**overrides) -> Params:
    return load(ROOT / "params.yaml", {"compare.resamples": 200} | overrides)


def written(results: Path, params: Params) -> ModelCard:
    write_results(results, params)
    card("short", results, results / "train/short/README.md", params)
    return ModelCard.load(results / "train/short/README.md")


def test_the_metadata_describe_the_model_and_its_accuracy(tmp_path):
    data = written(tmp_path, settings()).data
    assert (data.library_name, data.pipeline_tag, data.license) == ("transformers", "text-generation", "mit")
    assert (data.base_model, data.datasets, data.language) == (None, None, "en")
    assert data.model_name == "scratch-gsm8k-short"
    strict, flexible = data.eval_results
    assert (strict.metric_name, strict.metric_value, strict.metric_args["n"]) == ("strict accuracy", 0.5, 40)
    assert (flexible.metric_name, flexible.metric_value) == ("flexible accuracy", 0.5)
    low, high = strict.metric_args["ci95"]
    assert 0.3 < low < 0.5 < high < 0.7


def test_a_card_names_the_variant_that_training_started_from(tmp_path):
    assert "Trained from" not in written(tmp_path / "base", settings()).text
    text = written(tmp_path / "full", settings(**{"variants.short.start": "full"})).text
    assert "- Trained from `full`, a run of the same recipe" in text


def test_a_card_says_what_share_of_the_run_had_no_signal_and_how_it_ended(tmp_path):
    params = settings()
    warning = {"step": 24, "kind": "cut", "text": "60 % were cut off"}
    write_results(tmp_path, params, warnings={"short": [warning]}, stopped={"short": 100})
    card("short", tmp_path, tmp_path / "train/short/README.md", params)
    training = (tmp_path / "train/short/README.md").read_text().partition("## Training")[2].partition("## Limit")[0]
    assert re.search(r"^- Groups whose rewards were all equal.*: \d+\.\d % of short's$", training, re.MULTILINE)
    assert "- short, step 24: 60 % were cut off\n" in training
    assert "- short was stopped after step 100 of 200: " in training


def test_the_licence_is_that_of_the_base_model(tmp_path):
    model_card = written(tmp_path, settings(recipe="rtx4090"))
    data = model_card.data
    assert (data.base_model, data.license, data.license_name) == ("Qwen/Qwen2.5-3B", "other", "qwen-research")
    assert data.license_link == "https://huggingface.co/Qwen/Qwen2.5-3B/blob/main/LICENSE"
    assert "not for commercial use" in model_card.text.partition("## Licence")[2]


def test_data_of_the_hub_is_named_with_its_revision(tmp_path):
    params = settings(recipe="rtx4090")
    write_results(tmp_path, params)
    data = written(tmp_path, params).data
    assert data.datasets == [data.eval_results[0].dataset_type]
    assert data.eval_results[0].dataset_revision == "r1"


@pytest.mark.parametrize("recipe", recipes())
def test_the_licence_of_every_recipes_model_is_known(recipe):
    assert licences.of(settings(recipe=recipe, path="data").model) is not licences.UNKNOWN


def test_the_licence_of_a_folder_is_unknown(tmp_path):
    model_card = written(tmp_path, settings(model="models/mine"))
    assert model_card.data.license == "unknown"
    assert "unknown to this project" in model_card.text.partition("## Licence")[2]


def test_accuracies_have_intervals_and_differences(tmp_path):
    text = written(tmp_path, settings()).text
    row = re.search(r"^\| strict accuracy \| (.+) \| (.+) \| (.+) \| (.+) \|$", text, re.MULTILINE)
    assert row is not None
    assert row[1].startswith("10.0 % (")
    assert row[2].startswith("50.0 % (")
    assert re.fullmatch(r"\+40\.0 \(\+\d\d\.\d to \+\d\d\.\d\)", row[3])
    assert (
        row[4] == "0.00015"
    )  # 16 questions fixed, none broken: 2 / 2 ** 16, times 5, as Holm's correction finds it the second smallest of 6
    assert "seed 42" in text.partition("## Limitations")[2]
    assert "they are not GSM8K" in text
    assert "with GRPO (TRL's GRPOTrainer) on" in text


# The snippets, with real models


def few(**overrides) -> Params:
    return load(ROOT / "params.yaml", FEW | {"keep_checkpoints": [9]} | overrides)


def carded(trained: Path, folder: Path, params: Params) -> Path:
    """A copy of a folder in which short was trained, with a card whose accuracies are those of `sample_results`."""
    shutil.copytree(trained, folder)
    write_results(folder / "results", params)
    card("short", folder / "results", folder / "results/train/short/README.md", params)
    return folder


@pytest.fixture(scope="module")
def whole(uninterrupted, tmp_path_factory) -> Path:
    """The folder in which all weights of short were trained."""
    return carded(uninterrupted, tmp_path_factory.mktemp("whole") / "p", few())


@pytest.fixture(scope="module")
def adapted(prepared, tmp_path_factory) -> Path:
    """The folder in which short was trained as an adapter."""
    trained = shutil.copytree(prepared, tmp_path_factory.mktemp("trained") / "p")
    run(trained, "train --variant short", lora=LORA, train__learning_rate="1e-2")
    return carded(trained, tmp_path_factory.mktemp("adapted") / "p", few(lora=yaml.safe_load(LORA)))


def snippets(readme: Path) -> dict[str, str]:
    """The code of a card by library."""
    return dict(re.findall(r"^### (\w+)\n\n```python\n(.*?)^```$", readme.read_text(), re.MULTILINE | re.DOTALL))


def printed(readme: Path, library: str) -> str:
    """The output of a snippet, run in the folder of its card."""
    command = [sys.executable, "-c", snippets(readme)[library]]
    process = subprocess.run(command, cwd=readme.parent, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return process.stdout.strip()


def answer(folder: Path) -> str:
    """The answer of the pipeline's own engine to the snippets' question."""
    model = folder / "results/train/short/model"
    base = str(folder / "results/base/model")
    engine = answering.load_engine(loading.source(base, model), few())
    (completion,) = engine.complete([chat(EXAMPLE["english"][0], "english", False)], 24, "test")
    return completion.text.strip()


def test_the_snippet_for_all_weights_answers_as_the_pipeline_does(whole):
    readme = whole / "results/train/short/README.md"
    assert list(snippets(readme)) == ["transformers", "vLLM"]
    assert printed(readme, "transformers") == answer(whole)


@pytest.mark.parametrize("library", ["peft", "transformers"])
def test_a_snippet_for_an_adapter_answers_as_the_pipeline_does(adapted, library):
    readme = adapted / "results/train/short/README.md"
    assert list(snippets(readme)) == ["peft", "transformers", "vLLM"]
    assert ModelCard.load(readme).data.library_name == "peft"
    assert printed(readme, library) == answer(adapted)


def test_the_snippets_give_the_chat_template_its_variables_and_stop_where_evaluation_did(uninterrupted, tmp_path):
    params = few(chat_template_kwargs={"enable_thinking": False, "date_string": "1 May 2025"})
    folder = carded(uninterrupted, tmp_path / "p", params)
    code = snippets(folder / "results/train/short/README.md")
    assert ", enable_thinking=False, date_string='1 May 2025'" in code["transformers"]
    assert "chat_template_kwargs={'enable_thinking': False, 'date_string': '1 May 2025'}" in code["vLLM"]
    assert all("ends = [0, 2]\n" in snippet for snippet in code.values())
    assert printed(folder / "results/train/short/README.md", "transformers") == answer(folder)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="vLLM needs a CUDA GPU")
def test_the_snippets_for_vllm_answer(whole, adapted):
    for folder in (whole, adapted):
        assert printed(folder / "results/train/short/README.md", "vLLM")


@pytest.mark.parametrize("format", ["merged", "adapter"])
def test_an_export_has_a_card_whose_snippets_run_there(adapted, tmp_path, monkeypatch, format):
    monkeypatch.chdir(adapted)
    export("short", format, Path("results"), tmp_path / "out", few(lora=yaml.safe_load(LORA)))
    readme = tmp_path / "out/README.md"
    assert ModelCard.load(readme).data.library_name == {"merged": "transformers", "adapter": "peft"}[format]
    assert printed(readme, "transformers") == answer(adapted)
