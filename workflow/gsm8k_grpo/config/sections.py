"""The sections of the configuration and the types of their keys, each checked by itself.

What one section asks of another is checked where they stand together, in `params.Params`.
"""

import json
from inspect import signature
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gsm8k_grpo.config import errors
from gsm8k_grpo.gsm8k.few_shot import BaselinePrompt
from gsm8k_grpo.gsm8k.problems import ProblemSet
from gsm8k_grpo.gsm8k.prompts import Answers, Language
from gsm8k_grpo.gsm8k.rewards import NAMES, TABLE, RewardSet
from gsm8k_grpo.records import Method

NAME = r"^[a-z][a-z0-9_]*$"
TRACKING_SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql")  # of MLflow; a file store it refuses

Scheduler = Literal["constant", "constant_with_warmup", "cosine", "linear"]
Optimizer = Literal["adamw_torch", "adamw_torch_fused", "paged_adamw_8bit", "adamw_8bit"]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Text = Annotated[str, Field(min_length=1)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Hub(Section):
    """A data set on the Hugging Face hub; the keys name its columns."""

    dataset: Text
    configuration: Text | None
    revision: Text
    question_key: Text
    answer_key: Text
    licence: Text


class HubSplit(Hub):
    """A split of a data set on the hub that is a test set."""

    split: Text


class GeneratedSet(Section):
    problems: ProblemSet
    rows: Count


class QuestionSet(Section):
    """A further test set: from the hub, from a JSONL file (`path`) or generated.

    With `only_numbers` the questions whose answer is no number are left out, and counted.
    """

    hub: HubSplit | None = None
    path: Text | None = None
    generated: GeneratedSet | None = None
    only_numbers: bool = False

    @model_validator(mode="after")
    def _one_origin(self) -> "QuestionSet":
        given = [name for name in ("hub", "path", "generated") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"hub, path, generated: {len(given)} of them are given; give exactly one")
        return self


class Generated(Section):
    problems: ProblemSet
    train_rows: Count
    test_rows: Count


class Download(Section):
    hub: Hub
    generated: Generated


class Extract(Section):
    answers: Answers
    language: Language
    one_shot: bool
    validation_rows: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _free_answers_have_no_format(self) -> "Extract":
        if self.answers == "free" and self.one_shot:
            raise ValueError(
                "one_shot = true: the example is in tags, which answers: free are not asked in; give false"
            )
        return self


class Architecture(Section):
    """Shape of a Qwen2 model made here."""

    vocabulary: Annotated[int, Field(ge=300)]
    hidden: Count
    intermediate: Count
    layers: Count
    heads: Count
    context: Count

    @model_validator(mode="after")
    def _heads_divide_hidden(self) -> "Architecture":
        if self.hidden % (2 * self.heads):
            raise ValueError(f"hidden = {self.hidden}: must be a multiple of 2 * heads ({2 * self.heads})")
        return self


class Styles(Section):
    """How often each style of answer stands in the pretraining corpus; relative weights."""

    terse: NotNegative
    plain: NotNegative
    hurried: NotNegative
    tagged: NotNegative

    @model_validator(mode="after")
    def _one_counts(self) -> "Styles":
        if not any(weight for _, weight in self):
            raise ValueError("terse, plain, hurried, tagged = 0: at least one must be above 0")
        return self


class Base(Section):
    """The small base model that `model: scratch` trains."""

    architecture: Architecture
    styles: Styles
    favourite: Share
    slips: Share
    drills: Share
    steps: Count
    batch_size: Count
    muon_learning_rate: Positive
    adamw_learning_rate: Positive
    weight_decay: NotNegative


VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # that vLLM has adapters of


def vllm_rank(rank: int) -> int:
    """The smallest rank that vLLM has room for and that holds an adapter of this one."""
    return next(size for size in VLLM_RANKS if size >= rank)


class Lora(Section):
    """Low-rank adapters, trained in place of the weights; peft's names, `targets` for its target_modules."""

    rank: Annotated[int, Field(ge=1, le=VLLM_RANKS[-1])]
    alpha: Count
    targets: Annotated[list[Text], Field(min_length=1)]


class Vllm(Section):
    """vLLM in the process of the stage: longest prompt with its completion in tokens, the completions at a time, its
    KV cache, and whether it gives its memory back while weights are updated."""

    max_model_length: Count
    max_num_seqs: Count
    kv_cache_gib: Positive
    sleep: bool


class Train(Section):
    """Settings of TRL's GRPOTrainer, under TRL's names, and `prompts`, the size of the training subset."""

    prompts: Count | None
    per_device_train_batch_size: Count
    gradient_accumulation_steps: Count
    num_generations: Annotated[int, Field(ge=2)]
    steps_per_generation: Count
    num_iterations: Count
    max_completion_length: Count
    temperature: Positive
    learning_rate: Positive
    lr_scheduler_type: Scheduler
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)]  # transformers takes 1 for one step
    optim: Optimizer
    adam_beta1: Decay
    adam_beta2: Decay
    weight_decay: NotNegative
    max_grad_norm: Positive
    beta: NotNegative
    loss_type: Literal["grpo", "bnpo", "dr_grpo", "dapo"]
    scale_rewards: Literal["group", "batch", "none"]
    gradient_checkpointing: bool
    share_prompts: bool
    compile: bool
    old_log_probs: Literal["computed", "sampled"]
    save_steps: Count
    sample_steps: Count
    sample_prompts: Count

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
                f"share_prompts = true: takes whole groups in a batch; per_device_train_batch_size "
                f"({self.per_device_train_batch_size}) must be a multiple of num_generations ({self.num_generations})"
            )
        if self.sample_prompts > self.prompts_per_generation:
            raise ValueError(
                f"sample_prompts = {self.sample_prompts}: must be at most {self.prompts_per_generation}, the prompts "
                "of one generation (per_device_train_batch_size * steps_per_generation / num_generations)"
            )
        return self

    @property
    def optimizer_steps_per_generation(self) -> int:
        return self.steps_per_generation * self.num_iterations // self.gradient_accumulation_steps

    @property
    def prompts_per_generation(self) -> int:
        return self.per_device_train_batch_size * self.steps_per_generation // self.num_generations


class Sft(Section):
    """Settings of TRL's SFTTrainer, under TRL's names; it learns the rows that `train.prompts` takes."""

    per_device_train_batch_size: Count
    gradient_accumulation_steps: Count
    max_length: Count
    loss_type: Literal["nll", "chunked_nll"]
    learning_rate: Positive
    lr_scheduler_type: Scheduler
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)]
    optim: Optimizer
    adam_beta1: Decay
    adam_beta2: Decay
    weight_decay: NotNegative
    max_grad_norm: Positive
    gradient_checkpointing: bool
    save_steps: Count


class Rewards(Section):
    """Which set of reward functions, and the weight of each one used."""

    set: RewardSet
    weights: dict[str, float]

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
        """Whether one of them is given the gold answer; where none is, they can't teach what is right."""
        return any("answer" in signature(TABLE[self.set][name]).parameters for name in self.weights)


class Variant(Section):
    """A training run: its length in steps or in epochs; method and rewards where they differ from the common ones."""

    method: Method | None = None
    max_steps: Count | None = None
    epochs: Positive | None = None
    rewards: Rewards | None = None

    @model_validator(mode="after")
    def _one_length(self) -> "Variant":
        if (self.max_steps is None) == (self.epochs is None):
            given = f"max_steps = {json.dumps(self.max_steps)}, epochs = {json.dumps(self.epochs)}"
            raise ValueError(f"{given}: give one of the two")
        return self


class Evaluate(Section):
    questions: Count | None
    max_completion_length: Count
    batch_size: Count
    max_model_length: Count | None
    samples: Annotated[int, Field(ge=0)]
    temperature: Positive
    sampled_questions: Count | None
    prompts: list[BaselinePrompt]
    sets: dict[Annotated[str, Field(pattern=NAME)], QuestionSet]
    overlap_words: Count
    probes: list[Text]

    @model_validator(mode="after")
    def _names_stand_once(self) -> "Evaluate":
        if "test" in self.sets:
            raise ValueError("sets.test: is the test split itself; give the further set another name")
        if len(set(self.prompts)) < len(self.prompts):
            raise ValueError(f"prompts = {errors.as_written(self.prompts)}: must hold no prompt twice")
        return self


class Compare(Section):
    resamples: Annotated[int, Field(ge=100)]


class Tracking(Section):
    uri: Text | None
    experiment: Text

    @model_validator(mode="after")
    def _address_is_open(self) -> "Tracking":
        """The address is one of MLflow's, and can be shown and logged: it holds no password."""
        if self.uri is None:
            return self
        scheme = self.uri.partition(":")[0].partition("+")[0]
        if "@" in self.uri and scheme != "sqlite":
            raise ValueError(
                "uri: holds a user name or a password, which would reach the logs; leave them out of the address and "
                "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            )
        if "://" not in self.uri or scheme not in TRACKING_SCHEMES:
            allowed = ", ".join(f"{scheme}://" for scheme in TRACKING_SCHEMES)
            raise ValueError(f"uri = {errors.as_written(self.uri)}: must begin with one of {allowed}")
        return self
