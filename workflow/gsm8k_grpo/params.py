"""The configuration: a recipe file, then params.yaml, then overrides from the command line, typed and checked.

`load` merges the three layers key by key and validates the result before any work starts.  Every error
names the key, the value and what is allowed; unknown keys are errors.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gsm8k_grpo import layers, mistakes
from gsm8k_grpo.baselines import Baseline
from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.problems import ProblemSet
from gsm8k_grpo.prompts import Answers, Language
from gsm8k_grpo.rewards import NAMES, RewardSet

RECIPES = Path(__file__).resolve().parent.parent / "recipes"
NAME = r"^[a-z][a-z0-9_]*$"
TRACKING_SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql")  # of MLflow; a file store it refuses

Method = Literal["grpo", "sft"]
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


class Lora(Section):
    """Low-rank adapters, trained in place of the weights; peft's names, `targets` for its target_modules."""

    rank: Count
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
    prompts: list[Baseline]
    sets: dict[Annotated[str, Field(pattern=NAME)], QuestionSet]
    overlap_words: Count
    probes: list[Text]

    @model_validator(mode="after")
    def _names_stand_once(self) -> "Evaluate":
        if "test" in self.sets:
            raise ValueError("sets.test: is the test split itself; give the further set another name")
        if len(set(self.prompts)) < len(self.prompts):
            raise ValueError(f"prompts = {mistakes.written(self.prompts)}: must hold no prompt twice")
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
            raise ValueError(f"uri = {mistakes.written(self.uri)}: must begin with one of {allowed}")
        return self


class Params(Section):
    recipe: Text
    seed: Seed
    seeds: list[Seed]
    threads: Count
    source: Literal["hub", "local", "generated"]
    path: Text | None
    model: Text
    backend: Literal["trl", "unsloth"]
    engine: Literal["transformers", "vllm"]
    precision: Literal["float32", "mixed", "bfloat16", "float16"]
    quantization: Literal["4bit"] | None
    vram_gib: Positive | None
    lora: Lora | None
    vllm: Vllm | None
    method: Method
    download: Download
    extract: Extract
    base: Base | None
    train: Train
    sft: Sft
    rewards: Rewards
    variants: dict[Annotated[str, Field(pattern=NAME)], Variant]
    keep_checkpoints: list[Count]
    evaluate: Evaluate
    compare: Compare
    tracking: Tracking

    @model_validator(mode="after")
    def _parts_fit(self) -> "Params":
        if self.source == "local" and self.path is None:
            raise ValueError(
                "path = null: source 'local' needs the folder that holds train.jsonl and test.jsonl, each line "
                '{"question": ..., "answer": ...}; give path=FOLDER'
            )
        if self.model == "scratch" and self.base is None:
            raise ValueError("base = null: model 'scratch' needs the section base; see workflow/recipes/tiny.yaml")
        if not self.variants or "base" in self.variants:
            raise ValueError("variants: name at least one, such as short: {max_steps: 250}; 'base' is taken")
        self._check_seeds()
        self._check_generated_rows()
        self._check_machine()
        self._check_methods()
        if self.train.prompts is not None and self.train.prompts < self.train.prompts_per_generation:
            raise ValueError(
                f"train.prompts = {self.train.prompts}: must be at least {self.train.prompts_per_generation}, what one"
                " generation takes (per_device_train_batch_size * steps_per_generation / num_generations)"
            )
        rising = sorted(set(self.keep_checkpoints))
        if self.keep_checkpoints != rising:
            raise ValueError(f"keep_checkpoints = {self.keep_checkpoints}: must rise and hold no step twice: {rising}")
        return self

    def _check_seeds(self) -> None:
        """No seed stands twice, and no run with a further seed has the name of a variant."""
        if len({self.seed, *self.seeds}) <= len(self.seeds):
            raise ValueError(f"seeds = {self.seeds}: each seed once, and not {self.seed}, which is the first (seed)")
        for run, (variant, seed) in self.further_runs.items():
            if run in self.variants:
                raise ValueError(f"variants.{run}: is the name of {variant} with seed {seed}; choose another name")

    def _check_generated_rows(self) -> None:
        """The generator makes enough rows; what other sources hold is known when they have been read."""
        if self.source != "generated":
            return
        made, validation = self.download.generated.train_rows, self.extract.validation_rows
        wanted = self.train.prompts or self.train.prompts_per_generation
        if made - validation < wanted:
            raise ValueError(
                f"download.generated.train_rows = {made}: must be at least {validation + wanted}, "
                f"extract.validation_rows ({validation}) and what training takes ({wanted}, see train.prompts)"
            )

    def _check_machine(self) -> None:
        """Backend, engine, precision and adapters go together."""
        if self.engine == "vllm" and self.vllm is None:
            raise ValueError(
                "vllm = null: engine 'vllm' needs it, for example {max_model_length: 512, max_num_seqs: 256, "
                "kv_cache_gib: 4, sleep: false}"
            )
        if self.train.old_log_probs == "sampled" and self.engine != "vllm":
            raise ValueError("train.old_log_probs = sampled: they come from engine 'vllm'; give computed")
        if self.train.compile and self.engine == "transformers":
            raise ValueError(
                "train.compile = true: needs engine 'vllm'; layers that also generate would be compiled "
                "for every length"
            )
        if self.quantization and self.engine == "vllm" and self.backend == "trl":
            raise ValueError(
                f"quantization = {self.quantization}: engine 'vllm' takes such a model with backend "
                "'unsloth' alone; give engine transformers, or backend unsloth"
            )
        if self.lora and self.engine == "vllm" and self.precision == "float32":
            raise ValueError(
                "precision = float32: engine 'vllm' takes adapters in 16 bit alone; give mixed or bfloat16"
            )
        if self.lora is None:
            for key, value in (("quantization", self.quantization), ("precision", self.precision)):
                if value in ("4bit", "float16"):
                    raise ValueError(f"{key} = {value}: all weights can't be trained so; give the section lora")
            if self.backend == "unsloth":
                raise ValueError("backend = unsloth: trains adapters; give the section lora, or backend trl")
        if self.backend == "unsloth" and (self.train.share_prompts or self.train.compile):
            raise ValueError("backend = unsloth: has a loss of its own; share_prompts and compile must be false")

    def _check_methods(self) -> None:
        """Rewards and gold answers are there for GRPO, and rewards for nothing else."""
        for name, variant in self.variants.items():
            if self.variant_method(name) == "sft" and variant.rewards is not None:
                raise ValueError(
                    f"variants.{name}.rewards: method sft learns the answers and has no rewards; leave them out, or "
                    "give method: grpo"
                )
            if self.variant_method(name) == "grpo" and self.extract.answers == "free":
                raise ValueError(
                    f"extract.answers = free: variant {name} is of method grpo, whose rewards need a number to each "
                    "question; give answers: gsm8k, or method: sft"
                )

    def variant_method(self, variant: str) -> Method:
        return self.variants[variant].method or self.method

    @property
    def further_runs(self) -> dict[str, tuple[str, int]]:
        """Variant and seed of each run with a further seed, by the run's name: `short_s43`."""
        return {f"{variant}_s{seed}": (variant, seed) for variant in self.variants for seed in self.seeds}

    @property
    def runs(self) -> dict[str, dict[int, str]]:
        """The names of each variant's training runs by seed; the first seed's has the variant's name."""
        found = {variant: {self.seed: variant} for variant in self.variants}
        for run, (variant, seed) in self.further_runs.items():
            found[variant][seed] = run
        return found

    def of_run(self, name: str) -> "Params":
        """The configuration that a model goes by.

        For a run with a further seed it has that seed, the variant under the run's name, and no kept checkpoints; for
        any other model it is as it stands.
        """
        if name not in self.further_runs:
            return self
        variant, seed = self.further_runs[name]
        own = {"seed": seed, "seeds": [], "variants": {name: self.variants[variant]}, "keep_checkpoints": []}
        return self.model_copy(update=own)

    def resolved(self) -> dict[str, Any]:
        """Every key with the value that counts; beside the variants stand the runs with further seeds."""
        found = self.model_dump()
        further = {run: found["variants"][of] | {"seed": seed} for run, (of, seed) in self.further_runs.items()}
        return found | {"variants": found["variants"] | further}

    @property
    def headline_variant(self) -> str:
        """The variant that the report's first sentence is about: the last one that is no control, if there is one.

        A control has rewards or a method of its own.
        """
        trained = [name for name, variant in self.variants.items() if not (variant.rewards or variant.method)]
        return (trained or list(self.variants))[-1]

    def variant_rewards(self, variant: str) -> Rewards:
        return self.variants[variant].rewards or self.rewards

    def reward_names(self, variant: str) -> list[str]:
        return [] if self.variant_method(variant) == "sft" else list(self.variant_rewards(variant).weights)

    def kept_steps(self, variant: str) -> list[int]:
        """Steps of a variant whose weights are kept beside the final ones; its length in epochs bounds none."""
        length = self.variants[variant].max_steps
        return [step for step in self.keep_checkpoints if length is None or step < length]

    def model_names(self) -> list[str]:
        """Every model that can be evaluated: base, the runs, and the kept checkpoints as `short@100`."""
        kept = [f"{variant}@{step}" for variant in self.variants for step in self.kept_steps(variant)]
        return ["base", *self.variants, *self.further_runs, *kept]


def recipes() -> list[str]:
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def load(path: Path = Path("params.yaml"), overrides: Mapping[str, Any] = {}) -> Params:
    """The validated configuration.

    Args:
        path: params.yaml.
        overrides: keys and values that go over it, as `--config` gives them; `train.prompts` and
            `{"train": {"prompts": ...}}` are the same.

    Raises:
        PipelineError: naming the key, the value and what is allowed.
    """
    edited = layers.merge(layers.read(path), layers.nested(overrides))
    recipe = edited.get("recipe")
    if recipe not in recipes():
        raise PipelineError(f"{path}: recipe = {mistakes.written(recipe)}: choose from {', '.join(recipes())}")
    merged = layers.merge(layers.read(RECIPES / f"{recipe}.yaml"), edited)
    try:
        return Params.model_validate(merged)
    except ValidationError as error:
        reasons = "\n".join(f"  {line}" for line in mistakes.explain(error, Params))
        raise PipelineError(f"the configuration ({path}, recipe {recipe}) is not valid:\n{reasons}") from None
