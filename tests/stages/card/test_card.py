"""The model card: what the hub reads of it, its figures, and its snippets, which run as they stand."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from gsm8k_grpo.commands.export import export
from gsm8k_grpo.config.params import Params, load, recipes
from gsm8k_grpo.gsm8k.prompts import EXAMPLE, chat
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


def test_the_hub_reads_what_the_model_is_and_its_figures(tmp_path):
    found = written(tmp_path, settings()).data
    assert (found.library_name, found.pipeline_tag, found.license) == ("transformers", "text-generation", "mit")
    assert (found.base_model, found.datasets, found.language) == (None, None, "en")
    assert found.model_name == "scratch-gsm8k-short"
    strict, flexible = found.eval_results
    assert (strict.metric_name, strict.metric_value, strict.metric_args["n"]) == ("strict accuracy", 0.5, 40)
    assert (flexible.metric_name, flexible.metric_value) == ("flexible accuracy", 0.5)
    low, high = strict.metric_args["ci95"]
    assert 0.3 < low < 0.5 < high < 0.7


def test_a_base_model_hands_its_licence_on(tmp_path):
    made = written(tmp_path, settings(recipe="rtx4090"))
    found = made.data
    assert (found.base_model, found.license, found.license_name) == ("Qwen/Qwen2.5-3B", "other", "qwen-research")
    assert found.license_link == "https://huggingface.co/Qwen/Qwen2.5-3B/blob/main/LICENSE"
    assert "not for commercial use" in made.text.partition("## Licence")[2]


def test_data_of_the_hub_is_named_with_its_revision(tmp_path):
    params = settings(recipe="rtx4090")
    write_results(tmp_path, params)
    found = written(tmp_path, params).data
    assert found.datasets == [found.eval_results[0].dataset_type]
    assert found.eval_results[0].dataset_revision == "r1"


@pytest.mark.parametrize("recipe", recipes())
def test_the_licence_of_every_recipes_model_is_known(recipe):
    assert licences.of(settings(recipe=recipe, path="data").model) is not licences.UNKNOWN


def test_of_a_folder_the_licence_is_not_claimed(tmp_path):
    made = written(tmp_path, settings(model="models/mine"))
    assert made.data.license == "unknown"
    assert "look it up where the model comes from" in made.text


def test_figures_have_intervals_and_differences(tmp_path):
    text = written(tmp_path, settings()).text
    row = re.search(r"^\| strict accuracy \| (.+) \| (.+) \| (.+) \| (.+) \|$", text, re.MULTILINE)
    assert row is not None
    assert row[1].startswith("10.0 % (")
    assert row[2].startswith("50.0 % (")
    assert re.fullmatch(r"\+40\.0 \(\+\d\d\.\d to \+\d\d\.\d\)", row[3])
    assert row[4] == "0.00015"  # 16 questions won, none lost: 2 / 2 ** 16, the second smallest of 6 by Holm: times 5
    assert "with seed 42: the intervals" in text
    assert "they are not GSM8K" in text


# The snippets, with real models


def few(**overrides) -> Params:
    return load(ROOT / "params.yaml", FEW | {"keep_checkpoints": [9]} | overrides)


def carded(trained: Path, folder: Path, params: Params) -> Path:
    """A copy of a folder in which short was trained, with its card; the card's figures are of `sample_results`."""
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


def told(readme: Path, library: str) -> str:
    """What a snippet prints, run in the folder of its card."""
    command = [sys.executable, "-c", snippets(readme)[library]]
    done = subprocess.run(command, cwd=readme.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def answer(folder: Path) -> str:
    """What the pipeline has the model answer to the snippets' question."""
    model = folder / "results/train/short/model"
    base = str(folder / "results/base/model")
    engine = answering.load_engine(loading.source(base, model), few())
    (completion,) = engine.complete([chat(EXAMPLE["english"][0], "english", False)], 24, "test")
    return completion.text.strip()


def test_the_snippet_for_all_weights_answers_as_the_pipeline_does(whole):
    readme = whole / "results/train/short/README.md"
    assert list(snippets(readme)) == ["transformers", "vLLM"]
    assert told(readme, "transformers") == answer(whole)


@pytest.mark.parametrize("library", ["peft", "transformers"])
def test_a_snippet_for_an_adapter_answers_as_the_pipeline_does(adapted, library):
    readme = adapted / "results/train/short/README.md"
    assert list(snippets(readme)) == ["peft", "transformers", "vLLM"]
    assert ModelCard.load(readme).data.library_name == "peft"
    assert told(readme, library) == answer(adapted)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="vLLM needs a CUDA card")
def test_the_snippets_for_vllm_answer(whole, adapted):
    for folder in (whole, adapted):
        assert told(folder / "results/train/short/README.md", "vLLM")


@pytest.mark.parametrize("format", ["merged", "adapter"])
def test_an_export_has_a_card_whose_snippets_run_there(adapted, tmp_path, monkeypatch, format):
    monkeypatch.chdir(adapted)
    export("short", format, Path("results"), tmp_path / "out", few(lora=yaml.safe_load(LORA)))
    readme = tmp_path / "out/README.md"
    assert ModelCard.load(readme).data.library_name == {"merged": "transformers", "adapter": "peft"}[format]
    assert told(readme, "transformers") == answer(adapted)
