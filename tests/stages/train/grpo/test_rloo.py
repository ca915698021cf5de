"""RLOO: the same numbers as TRL's RLOOTrainer, and whole runs of the method."""

import shutil

import pandas as pd
import pytest
import torch
from gsm8k_grpo.files import read_json
from gsm8k_grpo.stages.train.grpo.packed import PackedGRPOTrainer
from gsm8k_grpo.stages.train.grpo.rloo import RLOOObjective, leave_one_out
from gsm8k_grpo.stages.train.grpo.trainer import ResumableGRPOTrainer
from packed_update import LORA, gradients, settings, with_fixed_completions
from small_run import (
    TRAIN,
    assert_same_run,
    killed_and_resumed,
    logged_steps,
    mlflow_run,
    run,
    stage,
)
from trl import RLOOConfig, RLOOTrainer

RUN = {"variants.short.method": "rloo", "train.beta": 0.02}
OPTIONS = {"beta": 0.3, "epsilon": 0.1, "epsilon_high": 0.2}


def test_an_advantage_is_what_a_reward_exceeds_the_mean_of_the_others_by():
    rewards = torch.tensor([1.0, 0.0, 0.0, 0.5, 0.3, 0.3, 0.3, 0.3])
    expected = [1 - 0.5 / 3, -1.5 / 3, -1.5 / 3, 0.5 - 1 / 3, 0, 0, 0, 0]
    assert leave_one_out(rewards, 4).tolist() == pytest.approx(expected)
    assert not leave_one_out(rewards, 4)[4:].any()  # exactly 0, so that the group needs no forward pass


def moved(network, seed: int, size: float) -> None:
    """Add the same small numbers to the trained weights whenever the seed is the same."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter += size * torch.randn_like(parameter)


def update(kind, prepared, folder, lora=None, **options):
    """Advantages, loss and gradients after a generation with fixed completions, whose policy has moved since."""
    common = settings(prepared, folder, lora, **OPTIONS)
    if kind is RLOOTrainer:
        kept = ("output_dir", "use_cpu", "bf16", "max_steps", "per_device_train_batch_size", "num_generations",
                "max_completion_length", "gradient_checkpointing")  # fmt: skip
        common["args"] = RLOOConfig(**{key: getattr(common["args"], key) for key in kept}, report_to="none", **OPTIONS)
    trainer = kind(**common, **options)
    with_fixed_completions(trainer)
    trainer.model.train()
    moved(trainer.model, seed=1, size=0.01)  # away from the reference, so that the KL term in the reward is not 0
    rows = [row for row in common["train_dataset"] for _ in range(2)][:4]
    inputs = {key: value for key, value in trainer._generate_and_score_completions(rows).items() if value is not None}
    moved(trainer.model, seed=2, size=0.002)  # ratios of about 0.8 to 1.3
    computed = gradients(trainer, inputs)
    return inputs["advantages"], computed, {key: value for key, value in trainer._metrics["train"].items() if value}


@pytest.mark.parametrize("lora", [None, LORA], ids=["all weights", "adapters"])
@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
def test_advantages_gradient_and_log_are_those_of_trls_rloo_trainer(prepared, tmp_path, packed, lora):
    kind, options = (PackedGRPOTrainer, {"compiled": False, "sampled": False}) if packed else (ResumableGRPOTrainer, {})
    expected = update(RLOOTrainer, prepared, tmp_path, lora)
    ours = update(kind, prepared, tmp_path, lora, objective=RLOOObjective(), **options)
    torch.testing.assert_close(ours[0], expected[0], rtol=1e-4, atol=1e-5)
    assert ours[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        torch.testing.assert_close(ours[1][name], gradient, rtol=2e-3, atol=2e-6)
    assert any(gradient.any() for gradient in expected[1].values())
    for figure in ("reward", "clip_ratio/region_mean", "kl"):
        assert ours[2][figure] == pytest.approx(expected[2][figure], rel=1e-4), figure


@pytest.fixture(scope="module")
def trained(prepared, tmp_path_factory):
    return run(shutil.copytree(prepared, tmp_path_factory.mktemp("rloo") / "p"), TRAIN, **RUN)


def test_a_run_has_the_columns_of_every_method_and_one_of_its_own(trained):
    rows = pd.read_csv(trained / "results/train/short/history.csv")
    assert list(rows["step"]) == list(range(1, 13))
    for column in ("reward", "kl", "entropy", "loss", "grad_norm", "ratio_clipped_share", "tokens"):
        assert rows[column].notna().all(), column
    metrics = read_json(trained / "results/train/short/metrics.json")
    assert (metrics["method"], metrics["prompts_seen"]) == ("rloo", 48)
    assert metrics["effective_config"]["trainer"] == "PaddedGRPOTrainer"


def test_mlflow_has_its_method_and_its_own_curve(trained):
    assert logged_steps(trained, "ratio_clipped_share") == list(range(1, 13))
    assert mlflow_run(trained).data.params["method"] == "rloo"


def test_a_killed_run_resumes_and_ends_in_the_same_bytes(trained, folder):
    killed_and_resumed(folder, 4, **RUN)
    assert_same_run(trained, folder)


def test_packed_batches_of_adapters_run_and_settings_without_effect_are_mentioned_once(folder):
    lora = "{rank: 4, alpha: 4, targets: [q_proj, v_proj]}"
    done = stage(
        folder, TRAIN, **RUN, lora=lora, train__share_prompts="true", train__delta=3, train__steps_per_generation=1,
        train__epsilon=0.1,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if "without effect" in line] == [
        "train short: train.delta = 3.0: without effect, because only the loss of method grpo has it",
        "train short: train.epsilon = 0.1: without effect, because with one update a generation the ratio of new to "
        "old probability is 1",
    ]
    rows = pd.read_csv(folder / "results/train/short/history.csv")
    assert rows["entropy"].notna().all()
    assert (rows["ratio_clipped_share"] == 0).all()
