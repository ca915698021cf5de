"""Settings of `train` that can't change anything, given the others: each is mentioned when training starts."""

from collections.abc import Iterator

from gsm8k_grpo.config.methods import METHODS
from gsm8k_grpo.config.params import Params
from gsm8k_grpo.config.sections import Train
from gsm8k_grpo.config.sections.policy import CLIPPED_LOSSES
from gsm8k_grpo.records import Method

# The values that leave a loss as it is; a key with another value was set on purpose.
NEUTRAL = {
    "multi_objective_aggregation": "sum_then_normalize", "importance_sampling_level": "token", "epsilon": 0.2,
    "epsilon_high": None, "delta": None, "top_entropy_quantile": 1.0, "entropy_coef": 0.0,
    "vllm_importance_sampling_correction": True, "vllm_importance_sampling_mode": "sequence_mask",
    "vllm_importance_sampling_clip_max": 3.0, "vllm_importance_sampling_clip_min": None,
}  # fmt: skip
OF_TRLS_LOSS = {"beta": 0.0, "loss_type": "dapo", "scale_rewards": "group"}
CORRECTION = [key for key in NEUTRAL if key.startswith("vllm_")]
FOR_GRPO = [
    "multi_objective_aggregation", "importance_sampling_level", "delta", "top_entropy_quantile", "entropy_coef",
    *CORRECTION,
]  # fmt: skip


def without_effect(variant: str, params: Params) -> list[str]:
    """A sentence for each reason why settings of a variant that learns from rewards have no effect."""
    reasons: dict[str, list[str]] = {}
    for key, reason in _idle(variant, params):
        if not any(key in keys for keys in reasons.values()):
            reasons.setdefault(reason, []).append(key)
    return [
        f"{', '.join(f'train.{key} = {_value(params.train, key)}' for key in keys)}: without effect, because {reason}"
        for reason, keys in reasons.items()
    ]


def _value(train: Train, key: str) -> str:
    value = getattr(train, key)
    return str(value).lower() if isinstance(value, bool) else f"{value}"


def _idle(variant: str, params: Params) -> Iterator[tuple[str, str]]:
    """Keys without effect, each with a reason; the first reason of a key counts."""
    train, method = params.train, params.variant_method(variant)
    changed = [key for key, neutral in NEUTRAL.items() if getattr(train, key) != neutral]
    if method == "rloo":
        yield from ((key, "only the loss of method grpo has it") for key in changed if key in FOR_GRPO)
    elif METHODS[method].own_section:
        yield from _of_trls_loss(train, method, changed)
    if params.engine == "transformers":
        yield from ((key, "engine is transformers") for key in changed if key in CORRECTION)
    elif train.old_log_probs == "sampled":
        reason = "train.old_log_probs: sampled takes the ratio to the probabilities of the sampling"
        yield from ((key, reason) for key in changed if key in CORRECTION)
    elif not train.vllm_importance_sampling_correction:
        reason = "train.vllm_importance_sampling_correction is off"
        yield from ((key, reason) for key in changed if key in CORRECTION[1:])
    if method == "grpo":
        yield from _idle_in_grpo(train, changed)
    if _has_ratio_of_one(train):
        yield from _idle_at_a_ratio_of_one(train, method == "grpo", changed)


def _of_trls_loss(train: Train, method: Method, changed: list[str]) -> Iterator[tuple[str, str]]:
    """Keys of the losses that online DPO and PPO replace; PPO keeps the correction for vLLM and its upper limit."""
    kept = {"vllm_importance_sampling_correction", "vllm_importance_sampling_clip_max"} if method == "ppo" else set()
    others = [key for key, neutral in OF_TRLS_LOSS.items() if getattr(train, key) != neutral]
    reason = f"method {method} has a loss of its own, with the settings of the section {METHODS[method].own_section}"
    yield from ((key, reason) for key in [*others, *changed] if key not in kept)


def _idle_in_grpo(train: Train, changed: list[str]) -> Iterator[tuple[str, str]]:
    if train.loss_type not in CLIPPED_LOSSES:
        clips = ["epsilon", "delta"] + ["epsilon_high"] * (train.loss_type != "cispo")
        yield from ((key, f"loss_type '{train.loss_type}' does not clip so") for key in clips if key in changed)
    if train.multi_objective_aggregation == "normalize_then_sum" and train.scale_rewards != "group":
        yield "scale_rewards", "train.multi_objective_aggregation: normalize_then_sum scales by itself"


def _has_ratio_of_one(train: Train) -> bool:
    """Whether each update starts from the weights that its completions' old probabilities were computed with."""
    return train.optimizer_steps_per_generation == 1 and train.old_log_probs == "computed"


def _idle_at_a_ratio_of_one(train: Train, grpo: bool, changed: list[str]) -> Iterator[tuple[str, str]]:
    reason = "with one update a generation the ratio of new to old probability is 1"
    yield from ((key, reason) for key in ("epsilon", "epsilon_high", "delta") if key in changed)
    if not grpo:
        return
    if train.loss_type in ("cispo", "vespo"):
        yield "loss_type", f"{reason}, and the gradient that of dapo"
    if train.loss_type == "sapo":
        yield "loss_type", f"{reason}, and the gradient that of grpo"
    whole = train.beta == 0 and train.top_entropy_quantile == 1 and train.loss_type in CLIPPED_LOSSES[:-1]
    if train.importance_sampling_level == "sequence" and whole:
        yield "importance_sampling_level", reason
