"""Training that starts from another variant's weights: what it begins with, what its reference is, what it refuses."""

import shutil

import pytest
import torch
from gsm8k_grpo.config.params import load
from gsm8k_grpo.config.sections import Lora
from gsm8k_grpo.files import PipelineError, read_json, read_jsonl, write_json
from gsm8k_grpo.models import loading, trained
from gsm8k_grpo.stages.train import run_folders, starts
from gsm8k_grpo.stages.train.methods import method_of
from project import ROOT
from safetensors.torch import load_file

LORA = {"rank": 4, "alpha": 8, "targets": ["q_proj", "up_proj"]}
FEW = {
    "threads": 1, "train.per_device_train_batch_size": 8, "train.num_generations": 4, "train.steps_per_generation": 1,
    "train.max_completion_length": 8, "train.sample_prompts": 1, "train.beta": 0.5, "train.learning_rate": 1e-2,
    "train.warmup_ratio": 0.0, "keep_checkpoints": [], "variants.sft": {"method": "sft", "max_steps": 2},
    "variants.short": {"max_steps": 2, "start": "sft"},
    "variants.further": {"method": "sft", "max_steps": 2, "start": "sft"},
}  # fmt: skip


def configured(**settings):
    return load(ROOT / "params.yaml", FEW | {key.replace("__", "."): value for key, value in settings.items()})


def noise(tensors):
    """Adds to tensors what training might."""
    torch.manual_seed(1)
    with torch.no_grad():
        for tensor in tensors:
            tensor.add_(torch.randn_like(tensor), alpha=0.05)


@pytest.fixture(scope="module")
def results(prepared, tmp_path_factory):
    """The results after base, with an sft that has all its weights: sft/model, and sft_adapter/model, an adapter."""
    folder = shutil.copytree(prepared / "results", tmp_path_factory.mktemp("start") / "results")
    base = folder / "base/base.json"
    base.write_text(base.read_text().replace("results/base", str(folder / "base")))
    model, tokenizer = loading.load(loading.Source(str(folder / "base/model")), configured())
    noise(model.parameters())
    for part in (model, tokenizer):
        part.save_pretrained(folder / "train/sft/model")
    model, _ = loading.load(loading.Source(str(folder / "base/model")), configured())
    adapted = loading.adapt(model, Lora(**LORA))
    noise(parameter for parameter in adapted.parameters() if parameter.requires_grad)
    adapted.save_pretrained(folder / "adapters/sft/model")
    return folder


@pytest.fixture
def trainer_of(results, tmp_path):
    """Builds the trainer of a variant that starts from sft."""

    def build(variant, trained_folder, params):
        start = starts.source(starts.folder(variant, results / trained_folder, params), results / "base", params)
        rows = read_jsonl(results / "extract/train.jsonl")[:8]
        return method_of(params.variant_method(variant)).build_trainer(rows, variant, start, params, tmp_path / "run")

    return build


def weights(results):
    return load_file(results / "train/sft/model/model.safetensors")


def adapter(model, name="default"):
    return {key.replace(f".{name}.", "."): tensor for key, tensor in model.named_parameters() if f".{name}." in key}


def same(one, other):
    return all(one[key].equal(other[key]) for key in one.keys() | other.keys())


def kl(trainer):
    return [row["kl"] for row in trainer.state.log_history if "kl" in row]


@pytest.mark.parametrize("variant", ["short", "further"])
def test_training_begins_with_the_weights_of_the_start(results, trainer_of, variant):
    begun = trainer_of(variant, "train", configured()).model.state_dict()
    assert all(begun[name].equal(tensor) for name, tensor in weights(results).items())


def test_the_reference_of_the_kl_term_is_the_start_and_stays_it(results, trainer_of):
    trainer = trainer_of("short", "train", configured())
    trainer.train_from(None)
    first, second = kl(trainer)
    assert first == pytest.approx(0, abs=1e-6)
    assert second > 1e-4
    reference = trainer.ref_model.state_dict()
    assert all(reference[name].equal(tensor) for name, tensor in weights(results).items())


@pytest.mark.parametrize("variant", ["short", "further"])
def test_the_adapter_of_the_start_goes_on_being_trained(results, trainer_of, variant):
    trainer = trainer_of(variant, "adapters", configured(lora=LORA))
    started = load_file(results / "adapters/sft/model/adapter_model.safetensors")
    assert same(adapter(trainer.model), started)
    trainer.train_from(None)
    assert not any(tensor.equal(started[key]) for key, tensor in adapter(trainer.model).items())


@pytest.mark.parametrize("share_prompts", [False, True])
def test_the_reference_of_an_adapter_is_the_adapter_of_the_start(results, trainer_of, share_prompts):
    trainer = trainer_of("short", "adapters", configured(lora=LORA, train__share_prompts=share_prompts))
    trainer.train_from(None)
    first, second = kl(trainer)
    assert first == pytest.approx(0, abs=1e-6)
    assert second > 1e-4
    assert same(adapter(trainer.model, "ref"), load_file(results / "adapters/sft/model/adapter_model.safetensors"))


@pytest.mark.parametrize(
    ("trained_folder", "lora", "held"),
    [("adapters", None, "an adapter, and lora = null"), ("train", LORA, "all weights, and lora trains an adapter")],
)
def test_a_start_that_was_trained_with_other_adapters_or_none_is_refused(trainer_of, trained_folder, lora, held):
    with pytest.raises(PipelineError, match=rf"^\S+/sft/model: holds {held}.*; train the start again"):
        trainer_of("short", trained_folder, configured(lora=lora))


def test_an_adapter_of_another_rank_is_refused(trainer_of):
    with pytest.raises(PipelineError, match=r"is an adapter of rank 4, alpha 8 on q_proj, up_proj, and lora = .*rank"):
        trainer_of("short", "adapters", configured(lora=LORA | {"rank": 2}))


def test_a_start_that_is_not_trained_is_named_with_the_command_that_trains_it(tmp_path):
    with pytest.raises(PipelineError, match=r"sft/model: no such folder.*`gsm8k-grpo train --variant sft`"):
        starts.folder("short", tmp_path, configured())
    kept = configured(keep_checkpoints=[1], variants__short__start="sft@1")
    assert trained.place("sft@1", tmp_path) == tmp_path / "sft/checkpoints/1"
    with pytest.raises(PipelineError, match="sft/checkpoints/1: no such folder"):
        starts.folder("short", tmp_path, kept)


def test_a_step_that_a_stopped_run_did_not_reach_is_named_with_the_step_that_it_reached(tmp_path):
    kept = configured(
        keep_checkpoints=[500], variants__sft={"method": "sft", "max_steps": 900}, variants__short__start="sft@500"
    )
    write_json(tmp_path / "sft/metrics.json", {"steps": 12})
    with pytest.raises(
        PipelineError, match=r"sft/checkpoints/500: no such folder; the run of sft ended after step 12, so"
    ):
        starts.folder("short", tmp_path, kept)


def test_other_weights_of_the_start_make_another_run_and_its_timestamps_do_not(results, tmp_path):
    start = shutil.copytree(results / "train/sft/model", tmp_path / "model")
    data, base = results / "extract/train.jsonl", results / "base/base.json"
    folders = [run_folders.folder("short", configured(), data, base, start)]
    (start / ".snakemake_timestamp").touch()
    folders.append(run_folders.folder("short", configured(), data, base, start))
    (start / "model.safetensors").write_bytes(b"other weights")
    folders.append(run_folders.folder("short", configured(), data, base, start))
    assert folders[0] == folders[1] != folders[2]


def test_mlflow_gets_the_start_as_a_parameter():
    logged = {name: method_of(method).mlflow_params(name, configured()) for name, method in
              (("short", "grpo"), ("further", "sft"), ("sft", "sft"))}  # fmt: skip
    assert {name: values["start"] for name, values in logged.items()} == {
        "short": "sft",
        "further": "sft",
        "sft": "base",
    }


def test_an_adapter_that_goes_on_is_evaluated_on_the_base_model(results, tmp_path):
    folder = shutil.copytree(results / "adapters/sft/model", tmp_path / "short/model")
    source = trained.weights("short", results / "base", tmp_path)
    assert source == loading.Source(read_json(results / "base/base.json")["model"], adapter=str(folder))
