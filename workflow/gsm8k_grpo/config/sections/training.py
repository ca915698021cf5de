"""Sections of training: GRPO, supervised fine-tuning, rewards, and the variants that are trained."""

import json
from inspect import signature
from math import gcd
from typing import Annotated, Literal

from pydantic import Field, model_validator

from gsm8k_grpo.config.sections.policy import PolicySection
from gsm8k_grpo.config.sections.section import (
    Count,
    Decay,
    NotNegative,
    Optimizer,
    Positive,
    Scheduler,
    Section,
    Share,
    Text,
)
from gsm8k_grpo.gsm8k.rewards import NAMES, TABLE, RewardSet
from gsm8k_grpo.records import Method


class Train(PolicySection):
    """Settings of the methods that sample completions, under TRL's names, and the size of the training subset."""

    prompts: Count | None
    """Rows of the train split that training uses; null uses all.  Also holds for method sft."""
    per_device_train_batch_size: Count
    """Completions in a batch.  A batch must fit in memory; times `gradient_accumulation_steps` it must be a multiple of
    `num_generations`."""
    gradient_accumulation_steps: Count
    """Batches per optimizer step.  More batches make a larger step without more memory."""
    num_generations: Annotated[int, Field(ge=2)]
    """Completions sampled for each prompt, whose rewards are compared with each other (the group of GRPO)."""
    steps_per_generation: Count
    """Batches whose completions are generated together.  More keep the GPU busier, and the later ones are trained on
    with weights that have changed since; must be a multiple of `gradient_accumulation_steps`."""
    num_iterations: Count
    """How often each batch of completions is trained on."""
    max_completion_length: Count
    """Longest completion in training, in tokens; longer ones are cut."""
    learning_rate: Positive
    """Peak learning rate."""
    lr_scheduler_type: Scheduler
    """How the learning rate changes after the warm-up: constant, constant_with_warmup, cosine or linear (both fall to
    0). constant has no warm-up."""
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)]  # transformers takes 1 for one step
    """Share of all steps over which the learning rate rises from 0 to its peak."""
    optim: Optimizer
    """Optimizer, under transformers' names: adamw_torch, adamw_torch_fused (fewer, larger GPU kernels), adamw_8bit
    (states in 8 bit, less memory) or paged_adamw_8bit (also moves states to the CPU when GPU memory runs out)."""
    adam_beta1: Decay
    """Decay of AdamW's average of the gradients."""
    adam_beta2: Decay
    """Decay of AdamW's average of the squared gradients."""
    weight_decay: NotNegative
    """Weight decay of AdamW."""
    max_grad_norm: Positive
    """Gradients with a larger norm are scaled down to this norm."""
    gradient_checkpointing: bool
    """Whether activations are computed again in the backward pass: less memory, a third more arithmetic."""
    share_prompts: bool
    """Whether a prompt is computed once for all its completions, without padding.  Faster; a group must then be in one
    batch, so `per_device_train_batch_size` must be a multiple of `num_generations`.  A model for which this is not
    right is refused before training."""
    compile: bool
    """Whether the model's layers are compiled, for a GPU: takes a minute at the start, then runs fewer and larger
    kernels.  Needs engine vllm or graphs."""
    cuda_graphs: bool
    """Whether the decoder's forward and backward pass of an update are CUDA graphs, for a GPU: the update of a small
    model then does not wait for the host to launch each kernel.  Needs `share_prompts: true`, and takes more
    memory."""
    old_log_probs: Literal["computed", "sampled"]
    """Log-probabilities in the denominator of the ratio: computed (one more forward pass) or sampled (as the
    engine returned them while generating; needs backend trl and engine vllm or graphs)."""
    save_steps: Count
    """Steps between two resumable checkpoints.  An interrupted run continues from the newest."""
    stop_without_signal: Count | None
    """Ends a run when in its last N generations the rewards of every group were equal, so that GRPO can't learn from
    any of them; its results are those of its last weights.  null trains to the end whatever the rewards are."""
    sample_steps: Count
    """Steps between two samples of completions in samples.jsonl."""
    sample_prompts: Count
    """Prompts in such a sample, with one completion each; at most the prompts of one generation."""

    @model_validator(mode="after")
    def _groups_are_whole(self) -> "Train":
        batch = self.per_device_train_batch_size * self.gradient_accumulation_steps
        if batch % self.num_generations:
            raise ValueError(
                f"per_device_train_batch_size * gradient_accumulation_steps = {batch}: "
                f"must be a multiple of num_generations ({self.num_generations})"
            )
        if self.steps_per_generation % self.gradient_accumulation_steps:
            raise ValueError(
                f"steps_per_generation = {self.steps_per_generation}: "
                f"must be a multiple of gradient_accumulation_steps ({self.gradient_accumulation_steps})"
            )
        if self.share_prompts and self.per_device_train_batch_size % self.num_generations:
            raise ValueError(
                f"share_prompts = true: needs whole groups in a batch; per_device_train_batch_size "
                f"({self.per_device_train_batch_size}) must be a multiple of num_generations ({self.num_generations})"
            )
        if self.sample_prompts > self.prompts_per_generation:
            raise ValueError(
                f"sample_prompts = {self.sample_prompts}: must be at most {self.prompts_per_generation}, the prompts "
                "of one generation (per_device_train_batch_size * steps_per_generation / num_generations)"
            )
        return self

    def of_one_gpu(self, gpus: int) -> "Train":
        """The settings of each GPU, if `gpus` of them share the same optimizer steps."""
        fewer, smaller = _shares(self.gradient_accumulation_steps, gpus)
        changed = {
            "per_device_train_batch_size": self.per_device_train_batch_size // smaller,
            "gradient_accumulation_steps": self.gradient_accumulation_steps // fewer,
            "steps_per_generation": self.steps_per_generation // fewer,
        }
        return self.model_copy(update=changed)

    @property
    def prompts_per_step(self) -> int:
        """The number of prompts in an optimizer step."""
        return self.per_device_train_batch_size * self.gradient_accumulation_steps // self.num_generations

    @property
    def optimizer_steps_per_generation(self) -> int:
        return self.steps_per_generation * self.num_iterations // self.gradient_accumulation_steps

    @property
    def prompts_per_generation(self) -> int:
        return self.per_device_train_batch_size * self.steps_per_generation // self.num_generations


class OnlineDpo(Section):
    """Settings that only online DPO has; all others are those of `train`.  `train.beta` has no effect on it."""

    loss: Literal["sigmoid", "ipo"]
    """Loss of a pair: sigmoid (that of DPO) or ipo, which is lowest at a finite margin between the two completions."""
    beta: Positive
    """How strongly the model is held to the one that training starts from."""
    learning_rate: Positive | None
    """Peak learning rate; null takes `train.learning_rate`."""

    @property
    def reference_weight(self) -> float:
        return self.beta


class Ppo(Section):
    """Settings that only PPO has, under the names of TRL's PPOConfig; all others are those of `train`.  `train.beta`,
    `train.loss_type` and `train.scale_rewards` have no effect on it."""

    gamma: Share
    """Discount of a reward that comes one token later; 1 for none."""
    lam: Share
    """Lambda of generalised advantage estimation: 1 takes the rewards up to the end of the completion, a smaller value
    relies more on the value head, so that tokens far from the end learn little while the head is poor."""
    kl_coef: NotNegative
    """Weight of the KL divergence from the model that training starts from, in the rewards of the tokens; with 0 no
    reference model is loaded."""
    cliprange: Positive
    """How far the ratio of new to old probability may be from 1 before its gradient is cut off."""
    cliprange_value: Positive
    """How far a value may be from the one before the update, in units of the reward, before its gradient is cut off."""
    vf_coef: Positive
    """Weight of the value head's loss."""
    learning_rate: Positive | None
    """Peak learning rate, also of the value head; null takes `train.learning_rate`."""

    @property
    def reference_weight(self) -> float:
        return self.kl_coef


class Sft(Section):
    """Settings of TRL's SFTTrainer under TRL's names; it learns the rows that `train.prompts` takes."""

    per_device_train_batch_size: Count
    """Rows in a batch; a batch must fit in memory."""
    gradient_accumulation_steps: Count
    """Batches per optimizer step.  More batches make a larger step without more memory."""
    max_length: Count
    """Longest question with its answer, in tokens; longer answers are cut."""
    loss_type: Literal["nll", "chunked_nll"]
    """nll, or chunked_nll: the same loss from the logits of 256 tokens at a time, which saves memory if batches are
    large."""
    learning_rate: Positive
    """Peak learning rate."""
    lr_scheduler_type: Scheduler
    """How the learning rate changes after the warm-up, as in `train`."""
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)]
    """Share of all steps over which the learning rate rises from 0 to its peak."""
    optim: Optimizer
    """Optimizer, as in `train`."""
    adam_beta1: Decay
    """Decay of AdamW's average of the gradients."""
    adam_beta2: Decay
    """Decay of AdamW's average of the squared gradients."""
    weight_decay: NotNegative
    """Weight decay of AdamW."""
    max_grad_norm: Positive
    """Gradients with a larger norm are scaled down to this norm."""
    gradient_checkpointing: bool
    """Whether activations are computed again in the backward pass: less memory, a third more arithmetic."""
    compile: bool
    """Whether the model's layers are compiled, for a GPU: takes a minute at the start, then runs fewer and larger
    kernels."""
    save_steps: Count
    """Steps between two resumable checkpoints.  An interrupted run continues from the newest."""

    def of_one_gpu(self, gpus: int) -> "Sft":
        """The settings by which each of so many GPUs does its part of the same optimizer steps."""
        fewer, smaller = _shares(self.gradient_accumulation_steps, gpus)
        changed = {
            "per_device_train_batch_size": self.per_device_train_batch_size // smaller,
            "gradient_accumulation_steps": self.gradient_accumulation_steps // fewer,
        }
        return self.model_copy(update=changed)


def _shares(batches: int, gpus: int) -> tuple[int, int]:
    """The factors by which the batches of a step become fewer and by which they become smaller, so that GPUs share it.

    As far as possible they become fewer, because a batch of the same size takes the same memory and is computed as
    efficiently.
    """
    fewer = gcd(batches, gpus)
    return fewer, gpus // fewer


class Rewards(Section):
    """A set of reward functions, and the weight of each function that is used."""

    set: RewardSet
    """Set that the functions are from: robust, published (the functions of the published notebooks with their quirks)
    or control (functions that must not teach anything)."""
    weights: dict[str, float]
    """Weight of each reward function by its name; functions without a weight are not used.  Weights in a higher layer
    replace those below as a whole."""

    @model_validator(mode="after")
    def _names_exist(self) -> "Rewards":
        if not self.weights:
            raise ValueError(f"weights = {{}}: name at least one of {', '.join(NAMES[self.set])}")
        for name in self.weights:
            if name not in NAMES[self.set]:
                raise ValueError(
                    f"weights.{name}: no reward of the set '{self.set}'; choose from {', '.join(NAMES[self.set])}"
                )
        return self

    @property
    def know_the_answer(self) -> bool:
        """Whether one of the functions gets the gold answer; without it they can't teach what is right."""
        return any(map(self.uses_answer, self.weights))

    def uses_answer(self, name: str) -> bool:
        """Whether a function of the set gets the gold answer."""
        return "answer" in signature(TABLE[self.set][name]).parameters


class Variant(Section):
    """A training run: its length, and method and rewards if they differ from those of the other variants."""

    method: Method | None = None
    """Training method of this variant, such as rloo; null takes the key `method` outside of the section."""
    start: Text | None = None
    """The model that training starts from: another variant, such as `sft`, or one of its kept checkpoints, such as
    `sft@500` (see `keep_checkpoints`).  Null means base.  A KL term (`train.beta`) measures the distance from this
    model.  With `lora`, training continues with this model's adapter.  A run with a further seed starts from the run of
    the other variant that has the same seed."""
    gpus: Count | None = None
    """GPUs that train this variant together; null takes the key `gpus` outside of the section."""
    max_steps: Count | None = None
    """Length in optimizer steps.  Set exactly one of `max_steps` and `epochs`."""
    epochs: Positive | None = None
    """Length in passes over the training rows.  Set exactly one of `max_steps` and `epochs`."""
    rewards: Rewards | None = None
    """Rewards of this variant, for example those of a control; null takes the section `rewards`."""

    @model_validator(mode="after")
    def _one_length(self) -> "Variant":
        if (self.max_steps is None) == (self.epochs is None):
            lengths = f"max_steps = {json.dumps(self.max_steps)}, epochs = {json.dumps(self.epochs)}"
            raise ValueError(f"{lengths}: set exactly one of the two")
        return self
