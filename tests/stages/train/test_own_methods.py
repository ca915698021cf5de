"""Runs of online_dpo and ppo by the real stages: what they record, what they export, and that they resume."""

import shutil

import pandas as pd
import pytest
from gsm8k_grpo.files import read_json
from safetensors.torch import load_file
from small_run import (
    ADAPTERS,
    STEPS,
    TRAIN,
    TRAINED_FILES,
    assert_same_run,
    killed_and_resumed,
    logged_steps,
    mlflow_run,
    run,
)

# Two passes over a generation; the weights of step 9 are kept in the middle of one.
PAIRS = {"method": "online_dpo", "train__num_iterations": 2, "train__share_prompts": "true"}
VALUES = {"method": "ppo", "train__num_iterations": 2, "ppo__kl_coef": "0.05", "ppo__learning_rate": "1e-3"}
RUNS = {
    "online_dpo": PAIRS,
    "online_dpo, ipo, adapters": PAIRS | {"lora": ADAPTERS, "online_dpo__loss": "ipo"},
    "ppo": VALUES,
    "ppo, adapters": VALUES | {"lora": ADAPTERS},
}
OWN = {
    "online_dpo": {"tied_share", "margin", "preferred_share"},
    "ppo": {"value_loss", "explained_variance", "ratio_clipped_share"},
}


@pytest.fixture(scope="module", params=list(RUNS))
def trained(request, prepared, tmp_path_factory):
    """The settings of a run, and the folder in which it has ended."""
    folder = shutil.copytree(prepared, tmp_path_factory.mktemp("run") / "p")
    return RUNS[request.param], run(folder, TRAIN, **RUNS[request.param])


def files(settings) -> tuple[str, list[str]]:
    """The name of the trained weights, and the files that a resumed run must have to the byte."""
    weights = "adapter_model.safetensors" if "lora" in settings else "model.safetensors"
    return weights, [name.replace("model.safetensors", weights) for name in TRAINED_FILES]


def test_every_step_has_its_row_with_the_columns_of_all_methods_and_its_own(trained):
    settings, folder = trained
    rows = pd.read_csv(folder / "results/train/short/history.csv")
    assert list(rows["step"]) == STEPS
    common = {"reward", "reward_correctness", "zero_variance_share", "kl", "entropy", "completion_tokens", "grad_norm"}
    assert common | OWN[settings["method"]] <= set(rows)
    assert rows[[*common, "loss"]].notna().all(axis=None)
    assert rows["kl"].iloc[0] < 1e-6
    assert rows["kl"].iloc[8:].min() > 1e-6


def test_the_metrics_name_the_method_and_its_settings(trained):
    settings, folder = trained
    method = settings["method"]
    metrics = read_json(folder / "results/train/short/metrics.json")
    assert metrics["method"] == method
    assert metrics["prompts_seen"] == 32  # 8 steps on 16 prompts, twice on each, then 4 steps on 16 others
    effective = metrics["effective_config"]
    expected = {"online_dpo": ("beta", 0.1, 2e-4), "ppo": ("kl_coef", 0.05, 1e-3)}[method]
    assert (effective[method][expected[0]], effective["learning_rate"]) == expected[1:]
    if method == "online_dpo":
        assert effective[method]["loss_of_pairs"] == settings.get("online_dpo__loss", "sigmoid")


def test_mlflow_has_the_method_and_its_own_curves(trained):
    settings, folder = trained
    assert mlflow_run(folder).data.params["method"] == settings["method"]
    for metric in OWN[settings["method"]]:
        assert logged_steps(folder, metric) == STEPS


def test_the_exported_model_has_no_value_head(trained):
    settings, folder = trained
    weights, _ = files(settings)
    for model in ("model", "checkpoints/9"):
        names = set(load_file(folder / f"results/train/short/{model}/{weights}"))
        if "lora" in settings:
            assert all("lora_" in name for name in names)
        else:
            assert names == set(load_file(folder / "results/base/model/model.safetensors"))
        assert not (folder / f"results/train/short/{model}/value_head.safetensors").exists()
    (checkpoint,) = folder.glob("checkpoints/short-*/checkpoint-12")
    assert (checkpoint / "value_head.safetensors").exists() == (settings["method"] == "ppo")


def test_a_killed_run_resumes_to_the_same_bytes(trained, prepared, tmp_path):
    settings, undisturbed = trained
    killed = shutil.copytree(prepared, tmp_path / "killed")
    killed_and_resumed(killed, 4, **settings)
    _, expected = files(settings)
    assert_same_run(undisturbed, killed, expected)
    heads = [next(folder.glob("checkpoints/short-*/checkpoint-12")) for folder in (undisturbed, killed)]
    if settings["method"] == "ppo":
        head = "value_head.safetensors"
        assert (heads[0] / head).read_bytes() == (heads[1] / head).read_bytes()
