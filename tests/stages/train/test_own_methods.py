"""Runs of online_dpo and ppo by the real stages: what they record, what they export, and that they resume."""

import filecmp
import shutil

import pandas as pd
import pytest
from gsm8k_grpo.files import read_json
from safetensors.torch import load_file
from small_run import TRAIN, TRAINED_FILES, history, run, start, wait_for, whole, without_clock

# Two passes over a generation; the weights of step 9 are kept in the middle of one.
METHODS = {
    "online_dpo": {"method": "online_dpo", "train__num_iterations": 2, "train__share_prompts": "true"},
    "ppo": {"method": "ppo", "train__num_iterations": 2, "ppo__kl_coef": "0.05", "ppo__learning_rate": "1e-3"},
}
OWN = {
    "online_dpo": {"tied_share", "margin", "preferred_share"},
    "ppo": {"value_loss", "explained_variance", "ratio_clipped_share"},
}


@pytest.fixture(scope="module", params=sorted(METHODS))
def trained(request, prepared, tmp_path_factory):
    """The method, and a whole run of it."""
    folder = shutil.copytree(prepared, tmp_path_factory.mktemp(request.param) / "p")
    return request.param, run(folder, TRAIN, **METHODS[request.param])


def test_every_step_has_its_row_with_the_columns_of_all_methods_and_its_own(trained):
    method, folder = trained
    rows = pd.read_csv(folder / "results/train/short/history.csv")
    assert list(rows["step"]) == list(range(1, 13))
    common = {"reward", "reward_correctness", "zero_variance_share", "kl", "entropy", "completion_tokens", "grad_norm"}
    assert common | OWN[method] <= set(rows)
    assert rows[[*common, "loss"]].notna().all(axis=None)
    assert rows["kl"].iloc[0] < 1e-6
    assert rows["kl"].iloc[8:].min() > 1e-6


def test_the_metrics_name_the_method_and_its_settings(trained):
    method, folder = trained
    metrics = read_json(folder / "results/train/short/metrics.json")
    assert metrics["method"] == method
    assert metrics["prompts_seen"] == 32  # 8 steps on 16 prompts, twice on each, then 4 steps on 16 others
    effective = metrics["effective_config"]
    expected = {"online_dpo": ("beta", 0.1, 2e-4), "ppo": ("kl_coef", 0.05, 1e-3)}[method]
    assert (effective[method][expected[0]], effective["learning_rate"]) == expected[1:]


def test_the_exported_model_has_no_value_head(trained):
    method, folder = trained
    for model in ("model", "checkpoints/9"):
        names = set(load_file(folder / f"results/train/short/{model}/model.safetensors"))
        assert names == set(load_file(folder / "results/base/model/model.safetensors"))
        assert not (folder / f"results/train/short/{model}/value_head.safetensors").exists()
    (checkpoint,) = folder.glob("checkpoints/short-*/checkpoint-12")
    assert (checkpoint / "value_head.safetensors").exists() == (method == "ppo")


def test_a_killed_run_resumes_to_the_same_bytes(trained, prepared, tmp_path):
    method, undisturbed = trained
    killed = shutil.copytree(prepared, tmp_path / "killed")
    process = start(killed, **METHODS[method])
    wait_for(whole(killed, 4), process)
    process.kill()
    process.communicate()
    run(killed, TRAIN, **METHODS[method])
    assert filecmp.cmpfiles(undisturbed, killed, TRAINED_FILES, shallow=False) == (TRAINED_FILES, [], [])
    assert history(undisturbed) == history(killed)
    assert without_clock(undisturbed) == without_clock(killed)
    heads = [next(folder.glob("checkpoints/short-*/checkpoint-12")) for folder in (undisturbed, killed)]
    if method == "ppo":
        head = "value_head.safetensors"
        assert (heads[0] / head).read_bytes() == (heads[1] / head).read_bytes()
