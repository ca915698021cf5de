"""Two GPUs train one model together, by NCCL: each with a copy of the weights, or with a part of them."""

import shutil

import pytest
import torch
from gsm8k_grpo.files import read_json
from shared_steps import RUNS, assert_same_steps, trained_by
from small_run import STEPS, TRAIN, logged_steps, run

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")]
WAYS = {"copies": (), "parts": ("--shard",)}
IN_16_BIT = {
    "gpus": 2, "precision": "mixed", "engine": "graphs",
    "graphs": {"max_num_seqs": 64, "kv_cache_gib": 0.5, "compile": False},
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(prepared, tmp_path_factory):
    """A folder for one GPU, and one for each way in which two train together."""
    folder = tmp_path_factory.mktemp("gpus")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("CUDA_VISIBLE_DEVICES", "0,1")
        alone = trained_by(1, prepared / "results", folder / "alone")
        return {
            "alone": alone,
            **{way: trained_by(2, prepared / "results", folder / way, *options) for way, options in WAYS.items()},
        }


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("way", WAYS)
def test_two_gpus_take_the_steps_of_one(name, way, trained):
    """Sums of 32 bit are added in another order, so the difference is larger than on a CPU."""
    assert_same_steps(name, trained["alone"], trained[way], rel=2e-3, weights=1e-4)


@pytest.mark.parametrize("more", [{}, {"train.compile": True}], ids=["plain", "compiled"])
def test_divided_weights_train_in_16_bit_on_what_the_engine_generates_with_them(prepared, tmp_path, more):
    folder = shutil.copytree(prepared, tmp_path / "p")
    run(folder, TRAIN, **IN_16_BIT | more | {"shard_weights": True})
    assert logged_steps(folder) == STEPS
    metrics = read_json(folder / "results/train/short/metrics.json")
    assert metrics["effective_config"]["shard_weights"]
    assert metrics["effective_config"]["gpus"] == 2
