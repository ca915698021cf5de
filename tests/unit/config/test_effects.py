"""Settings of `train` that can't change anything are named, and those that can are not."""

import pytest
from gsm8k_grpo.config.effects import without_effect
from gsm8k_grpo.config.params import load
from project import TRANSFORMERS

ONE_UPDATE = {"train.steps_per_generation": 1, "train.sample_prompts": 1}
RATIO = "with one update a generation the ratio of new to old probability is 1"
VLLM = {
    "engine": "vllm", "vllm": {"max_model_length": 512, "max_num_seqs": 8, "kv_cache_gib": 1.0, "sleep": False},
}  # fmt: skip
CASES = [
    ({}, []),
    (ONE_UPDATE, []),
    ({"train.epsilon": 0.1, "train.delta": 4.0, "train.importance_sampling_level": "sequence"}, []),
    (
        ONE_UPDATE | {"train.epsilon": 0.1, "train.epsilon_high": 0.28, "train.delta": 4.0},
        [f"train.epsilon = 0.1, train.epsilon_high = 0.28, train.delta = 4.0: without effect, because {RATIO}"],
    ),
    (ONE_UPDATE | {"train.epsilon": 0.1, "train.num_iterations": 2}, []),
    (
        ONE_UPDATE | {"train.loss_type": "sapo"},
        [f"train.loss_type = sapo: without effect, because {RATIO}, and the gradient that of grpo"],
    ),
    (
        ONE_UPDATE | {"train.loss_type": "cispo", "train.epsilon_high": 5.0},
        [
            f"train.epsilon_high = 5.0: without effect, because {RATIO}",
            f"train.loss_type = cispo: without effect, because {RATIO}, and the gradient that of dapo",
        ],
    ),
    (
        ONE_UPDATE | {"train.importance_sampling_level": "sequence"},
        [f"train.importance_sampling_level = sequence: without effect, because {RATIO}"],
    ),
    (ONE_UPDATE | {"train.importance_sampling_level": "sequence", "train.beta": 0.1}, []),
    (
        {"train.loss_type": "vespo", "train.epsilon": 0.1, "train.epsilon_high": 0.3},
        ["train.epsilon = 0.1, train.epsilon_high = 0.3: without effect, because loss_type 'vespo' does not clip so"],
    ),
    (
        {"train.multi_objective_aggregation": "normalize_then_sum", "train.scale_rewards": "none"},
        [
            "train.scale_rewards = none: without effect, because train.multi_objective_aggregation: normalize_then_sum "
            "scales by itself"
        ],
    ),
    (
        {"train.vllm_importance_sampling_correction": False},
        ["train.vllm_importance_sampling_correction = false: without effect, because engine is transformers"],
    ),
    (VLLM | {"train.vllm_importance_sampling_mode": "token_mask"}, []),
    (
        VLLM
        | {"train.vllm_importance_sampling_correction": False, "train.vllm_importance_sampling_mode": "token_mask"},
        [
            "train.vllm_importance_sampling_mode = token_mask: without effect, because "
            "train.vllm_importance_sampling_correction is off"
        ],
    ),
    (
        {"variants.short.method": "rloo", "train.entropy_coef": 0.1, "train.epsilon": 0.1},
        ["train.entropy_coef = 0.1: without effect, because only the loss of method grpo has it"],
    ),
    (
        {"variants.short.method": "ppo", "train.beta": 0.04, "train.loss_type": "grpo", "train.epsilon": 0.1},
        [
            "train.beta = 0.04, train.loss_type = grpo, train.epsilon = 0.1: without effect, because method ppo has a "
            "loss of its own, with the settings of the section ppo"
        ],
    ),
    ({"variants.short.method": "ppo", "train.num_iterations": 2, "train.mask_truncated_completions": True}, []),
    (
        {"variants.short.method": "online_dpo", "train.scale_rewards": "none"},
        [
            "train.scale_rewards = none: without effect, because method online_dpo has a loss of its own, with the "
            "settings of the section online_dpo"
        ],
    ),
]


@pytest.mark.parametrize(("overrides", "sentences"), CASES)
def test_settings_without_effect_are_named_with_the_reason(root, overrides, sentences):
    assert without_effect("short", load(root / "params.yaml", TRANSFORMERS | overrides)) == sentences
