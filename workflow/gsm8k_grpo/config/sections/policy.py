"""The keys of `train` that say how completions are sampled and what loss they give, under TRL's names."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from gsm8k_grpo.config.sections.section import NotNegative, Positive, Section, Share

LossType = Literal["grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "luspo", "vespo"]
CLIPPED_LOSSES = ("grpo", "bnpo", "dr_grpo", "dapo", "luspo")  # those with the clipped ratio of PPO


class PolicySection(Section):
    """Sampling and loss.  Where a key is only for method grpo, its text says so."""

    temperature: Positive
    """Sampling temperature of the completions."""
    top_p: Annotated[float, Field(gt=0, le=1)]
    """Completions in training are sampled from the most probable tokens that together have this probability; 1 takes
    all.  The loss still takes probabilities among all tokens.  `top_p`, `top_k` and `min_p` do not affect
    `evaluate`."""
    top_k: Annotated[int, Field(ge=0)]
    """Completions in training are sampled from this many most probable tokens; 0 takes all."""
    min_p: Share | None
    """Completions in training are sampled from tokens with at least this share of the most probable one's probability;
    null takes all."""
    beta: NotNegative
    """Weight of the KL divergence from the model that training starts from: in the loss, for method rloo in the reward.
    With 0 no reference model is loaded, which saves memory."""
    loss_type: LossType
    """Loss of method grpo, under TRL's names.  Four clip the ratio and differ in how they average over tokens: grpo
    (per completion, then over completions), bnpo (over the tokens of a batch), dr_grpo (by the longest possible
    completion) or dapo (over the tokens of the whole step).  cispo clips the weight of a token and keeps its gradient;
    sapo has a smooth gate in place of the clip; luspo and vespo work on whole completions.  docs/method.md has the
    formulas."""
    scale_rewards: Literal["group", "batch", "none"]
    """Standard deviation by which the advantages of method grpo are divided: that of the prompt's group, that of the
    batch, or none."""
    multi_objective_aggregation: Literal["sum_then_normalize", "normalize_then_sum"]
    """How method grpo makes one advantage of several rewards: sum_then_normalize adds the weighted rewards first,
    normalize_then_sum (GDPO) divides each reward by its own standard deviation in the group, adds, and divides by the
    standard deviation of the batch; `scale_rewards` then has no effect."""
    importance_sampling_level: Literal["token", "sequence"]
    """Ratio of new to old probability in the loss of method grpo: one for each token, or one for each completion (the
    geometric mean, as in GSPO).  luspo needs sequence, vespo token."""
    epsilon: NotNegative
    """The ratio is clipped at 1 - epsilon, and at 1 + epsilon unless `epsilon_high` is set."""
    epsilon_high: NotNegative | None
    """The ratio is clipped at 1 + epsilon_high; null takes `epsilon`.  For cispo it is the largest weight itself, such
    as 5."""
    delta: Annotated[float, Field(gt=1)] | None
    """Largest ratio of a token with a negative advantage, for method grpo; null sets no limit."""
    mask_truncated_completions: bool
    """Whether completions that reach `max_completion_length` are left out of the loss.  Their rewards still count for
    the others of their group."""
    top_entropy_quantile: Share
    """Share of the tokens of a batch, those with the highest entropy, that the loss of method grpo takes; 1 takes
    all."""
    entropy_coef: NotNegative
    """Weight of the mean entropy of the tokens, which the loss of method grpo rewards; with 0 it is left out."""
    vllm_importance_sampling_correction: bool
    """With engine vllm or graphs and `old_log_probs: computed`: whether the losses of the methods grpo and ppo are
    multiplied by the ratio of the trainer's probabilities to the engine's, which differ in rounding."""
    vllm_importance_sampling_mode: Literal["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"]
    """Whether the ratio of that correction is that of each token or of the whole completion, and whether a ratio beyond
    the limits below is cut to the limit (truncate) or set to 0 (mask)."""
    vllm_importance_sampling_clip_max: Positive | None
    """Upper limit of the ratio of that correction; null sets none."""
    vllm_importance_sampling_clip_min: Positive | None
    """Lower limit of the ratio of that correction; null sets none."""

    @model_validator(mode="after")
    def _loss_fits(self) -> "PolicySection":
        level = self.importance_sampling_level
        if self.loss_type == "cispo" and (self.epsilon_high or 0) < 1:
            raise ValueError(
                f"epsilon_high = {'null' if self.epsilon_high is None else self.epsilon_high}: loss_type 'cispo' takes "
                "it as the largest weight of a token, so it must be at least 1; set 5, for example"
            )
        if self.loss_type == "luspo" and level != "sequence":
            raise ValueError(f"importance_sampling_level = {level}: loss_type 'luspo' needs sequence")
        if self.loss_type == "vespo" and level != "token":
            raise ValueError(
                f"importance_sampling_level = {level}: loss_type 'vespo' has a ratio of whole completions of its own; "
                "set token"
            )
        return self

    @model_validator(mode="after")
    def _correction_has_limits(self) -> "PolicySection":
        lowest, highest = self.vllm_importance_sampling_clip_min, self.vllm_importance_sampling_clip_max
        if lowest is not None and highest is not None and lowest >= highest:
            raise ValueError(
                f"vllm_importance_sampling_clip_min = {lowest}: must be below vllm_importance_sampling_clip_max "
                f"({highest})"
            )
        if lowest is highest is None and self.vllm_importance_sampling_mode.endswith("truncate"):
            raise ValueError(
                f"vllm_importance_sampling_mode = {self.vllm_importance_sampling_mode}: needs a limit to cut to; set "
                "vllm_importance_sampling_clip_max: 3, for example"
            )
        return self
