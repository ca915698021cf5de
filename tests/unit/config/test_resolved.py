"""What each training depends on: a run is out of date if one of these keys changes, and for no other."""

import pytest
from gsm8k_grpo.config.params import load
from gsm8k_grpo.config.resolved import resolved
from project import ROOT

VARIANTS = {
    "variants": {
        "sft": {"method": "sft", "epochs": 1},
        "short": {"max_steps": 250, "start": "sft@9"},
        "full": {"epochs": 3, "start": "short"},
        "ppo": {"max_steps": 250, "method": "ppo"},
        "control": {"max_steps": 9, "rewards": {"set": "control", "weights": {"random": 1.0}}},
    },
    "seeds": [43],
    "keep_checkpoints": [9, 50],
}
OF_REWARDS = {"short", "full", "ppo", "control"}
EVERY = {"sft", *OF_REWARDS}


def training(changes: dict) -> dict:
    keys: dict = resolved(load(ROOT / "params.yaml", VARIANTS | changes))["training"]
    return keys


def changed_by(changes: dict) -> set[str]:
    """The runs whose keys change."""
    before, after = training({}), training(changes)
    return {run for run in before if before[run] != after[run]}


@pytest.mark.parametrize(
    ("changes", "runs"),
    [
        ({"sft.learning_rate": 1e-3}, {"sft", "short", "full"}),
        ({"train.learning_rate": 1e-3}, OF_REWARDS),
        ({"rewards.weights.correctness": 3.0}, OF_REWARDS - {"control"}),
        ({"ppo.gamma": 0.5}, {"ppo"}),
        ({"online_dpo.beta": 0.5}, set()),
        ({"graphs.max_num_seqs": 9}, OF_REWARDS),
        ({"train.prompts": 64, "extract.validation_rows": 0}, EVERY),
        ({"precision": "mixed"}, EVERY),
        ({"seed": 7}, EVERY),
        ({"keep_checkpoints": [9, 50, 100]}, EVERY - {"control"}),
        ({"variants.full.epochs": 2}, {"full"}),
        ({"variants.short.max_steps": 60}, {"short", "full"}),
        ({"evaluate.samples": 2, "compare.resamples": 500, "tracking.experiment": "other"}, set()),
    ],
)
def test_a_run_depends_on_the_settings_of_its_method_and_of_its_starts(changes, runs):
    assert {run for run in changed_by(changes) if not run.endswith("_s43")} == runs


@pytest.mark.parametrize(
    ("changes", "runs"),
    [
        ({"train.learning_rate": 1e-3}, {f"{run}_s43" for run in OF_REWARDS}),
        ({"seed": 7}, set()),
        ({"keep_checkpoints": [9, 50, 100]}, set()),  # they keep only what others start from
    ],
)
def test_a_run_with_a_further_seed_does_too_but_has_a_seed_and_kept_checkpoints_of_its_own(changes, runs):
    assert {run for run in changed_by(changes) if run.endswith("_s43")} == runs


def test_a_run_with_a_further_seed_depends_on_the_starts_with_that_seed():
    of_short = training({})["full_s43"]["start"]
    assert of_short["variants"]["short_s43"]["start"] == "sft_s43@9"
    of_sft = of_short["start"]
    assert (of_sft["seed"], of_sft["keep_checkpoints"]) == (43, [9])
    assert "start" not in of_sft
