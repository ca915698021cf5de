"""The configuration: a recipe, then params.yaml, then overrides from the command line, typed and checked.

`load` merges them key by key and checks the result before any work starts.  Every error names the key, the value and
what is allowed; unknown keys are errors.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError, model_validator

from gsm8k_grpo.config import errors, layers, starts
from gsm8k_grpo.config.methods import METHODS, MethodTraits
from gsm8k_grpo.config.recipes import more_sets, read_recipe, recipes
from gsm8k_grpo.config.sections import Configuration, Method, Rewards, Sft, Train
from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.gsm8k.rewards import names_for

# Arguments of transformers' apply_chat_template, and the messages that it passes to the template.
TAKEN_NAMES = {
    "conversation", "messages", "tools", "documents", "chat_template", "add_generation_prompt",
    "continue_final_message", "tokenize", "padding", "truncation", "max_length", "return_tensors", "return_dict",
    "return_assistant_tokens_mask", "tokenizer_kwargs",
}  # fmt: skip


class Params(Configuration):
    """The configuration, checked as a whole, and what follows from it: runs, their names, their settings."""

    @model_validator(mode="after")
    def _parts_fit(self) -> "Params":
        if self.source == "local" and self.path is None:
            raise ValueError(
                "path = null: source 'local' needs the folder that holds train.jsonl and test.jsonl (or .csv, .parquet)"
                " with a question and an answer in each row; set path=FOLDER"
            )
        if self.model == "scratch" and self.base is None:
            raise ValueError("base = null: model 'scratch' needs the section base; see workflow/recipes/defaults.yaml")
        if not self.variants or "base" in self.variants:
            raise ValueError("variants: name at least one, such as short: {max_steps: 250}; the name base is taken")
        self._check_seeds()
        self._check_generated_rows()
        self._check_chat_template()
        self._check_machine()
        self._check_gpus()
        self._check_methods()
        self._check_correction()
        starts.require(self.variants, self._kept_models())
        if self.train.prompts is not None and self.train.prompts < self.train.prompts_per_generation:
            raise ValueError(
                f"train.prompts = {self.train.prompts}: must be at least {self.train.prompts_per_generation}, the "
                "prompts of one generation (per_device_train_batch_size * steps_per_generation / num_generations)"
            )
        rising = sorted(set(self.keep_checkpoints))
        if self.keep_checkpoints != rising:
            raise ValueError(
                f"keep_checkpoints = {self.keep_checkpoints}: must be in ascending order without repeats: {rising}"
            )
        return self

    @model_validator(mode="after")
    def _starts_come_first(self) -> "Params":
        """Tables and comparisons have a variant behind the one that it was trained from."""
        return self.model_copy(update={"variants": starts.ordered(self.variants)})

    def _check_seeds(self) -> None:
        """No seed occurs twice, and no run with a further seed has the name of a variant."""
        if len({self.seed, *self.seeds}) <= len(self.seeds):
            raise ValueError(f"seeds = {self.seeds}: must hold each seed once, and not {self.seed}, the first (seed)")
        for run, (variant, seed) in self.further_runs.items():
            if run in self.variants:
                raise ValueError(f"variants.{run}: is the name of {variant} with seed {seed}; choose another name")

    def _check_generated_rows(self) -> None:
        """The generator makes enough rows; for other sources, the stages check that when they read them."""
        if self.source != "generated":
            return
        rows, validation = self.download.generated.train_rows, self.extract.validation_rows
        prompts = self.train.prompts or self.train.prompts_per_generation
        if rows - validation < prompts:
            raise ValueError(
                f"download.generated.train_rows = {rows}: must be at least {validation + prompts}, the sum of "
                f"extract.validation_rows ({validation}) and the rows for training ({prompts}, see train.prompts)"
            )

    def _check_chat_template(self) -> None:
        """Variables for the chat template have a name that is free, and a value that every library passes on."""
        for name, value in self.chat_template_kwargs.items():
            key = f"chat_template_kwargs.{name} = {errors.as_written(value)}"
            if name in TAKEN_NAMES:
                raise ValueError(f"{key}: is set by the pipeline; name a variable of the model's chat template")
            if not isinstance(value, str | int | float):
                raise ValueError(f"{key}: must be a text, a number, true or false; write a date in quotes")

    def _check_machine(self) -> None:
        """Backend, engine, precision and adapters go together."""
        if self.engine == "vllm" and self.vllm is None:
            raise ValueError(
                "vllm = null: engine 'vllm' needs it, for example {max_model_length: 512, max_num_seqs: 256, "
                "kv_cache_gib: 4, sleep: false}"
            )
        if self.engine == "graphs":
            self._check_graphs()
        if self.train.old_log_probs == "sampled" and self.engine == "transformers":
            raise ValueError(
                "train.old_log_probs = sampled: needs engine 'vllm' or 'graphs', which return them; set computed"
            )
        if self.train.old_log_probs == "sampled" and not self.train.share_prompts:
            raise ValueError("train.old_log_probs = sampled: needs train.share_prompts: true; set computed")
        if self.train.compile and self.engine == "transformers":
            raise ValueError(
                "train.compile = true: needs engine 'vllm' or 'graphs'; with engine 'transformers' the layers also "
                "generate, and would be compiled again for every length"
            )
        if self.quantization and self.engine == "vllm" and self.backend == "trl":
            raise ValueError(
                f"quantization = {self.quantization}: with engine 'vllm' needs backend 'unsloth'; "
                "set engine: transformers, or backend: unsloth"
            )
        if self.lora and self.engine == "vllm" and self.precision == "float32":
            raise ValueError("precision = float32: engine 'vllm' only takes adapters in 16 bit; set mixed or bfloat16")
        if self.lora is None:
            for key, value in (("quantization", self.quantization), ("precision", self.precision)):
                if value in ("4bit", "float16"):
                    raise ValueError(f"{key} = {value}: only adapters can be trained in it; set the section lora")
            if self.backend == "unsloth":
                raise ValueError("backend = unsloth: only trains adapters; set the section lora, or backend: trl")
        started = [
            name for name in self.variants if self.variants[name].start and self.traits(name).learns_from_rewards
        ]
        if self.backend == "unsloth" and self.train.beta and started:
            raise ValueError(
                f"train.beta = {self.train.beta:g}: backend 'unsloth' is not known to take the start of {started[0]} "
                "as the reference of its KL term; set train.beta: 0, or backend: trl"
            )
        own_loss = [name for name in self.variants if self.variant_method(name) not in ("grpo", "sft")]
        if self.backend == "unsloth" and own_loss:
            raise ValueError(
                f"backend = unsloth: has the loss of method grpo alone, and variant {own_loss[0]} is of method "
                f"{self.variant_method(own_loss[0])}; set backend: trl"
            )
        if self.backend == "unsloth" and (self.train.share_prompts or self.train.compile):
            raise ValueError("backend = unsloth: has its own loss; train.share_prompts and train.compile must be false")

    def _check_graphs(self) -> None:
        if self.graphs is None:
            raise ValueError(
                "graphs = null: engine 'graphs' needs it, for example {max_num_seqs: 512, kv_cache_gib: 4, compile: "
                "true}"
            )
        if self.backend == "unsloth":
            raise ValueError("backend = unsloth: generates with engine 'vllm' or 'transformers'; set one of these")
        if self.quantization:
            raise ValueError(
                f"quantization = {self.quantization}: engine 'graphs' takes weights in 16 or 32 bit; set engine: "
                "transformers, or quantization: null"
            )

    def _check_gpus(self) -> None:
        """The GPUs of each variant can share its optimizer steps."""
        for variant in self.variants:
            gpus = self.gpus_of(variant)
            if gpus > 1 and self.backend == "unsloth" and self.traits(variant).learns_from_rewards:
                raise ValueError(f"gpus = {gpus}: backend 'unsloth' trains on one; set backend: trl, or gpus: 1")
            settings = self.settings_of(variant)
            if isinstance(settings, Train):
                unit, keys, parts = "prompts", " / num_generations", settings.prompts_per_step
            else:
                batches = settings.gradient_accumulation_steps
                unit, keys, parts = "rows", "", settings.per_device_train_batch_size * batches
            if parts % gpus:
                raise ValueError(
                    f"gpus = {gpus}: variant {variant} has {parts} {unit} in an optimizer step "
                    f"(per_device_train_batch_size * gradient_accumulation_steps{keys}), which {gpus} GPUs can't share "
                    f"evenly; choose a number that divides {parts}"
                )

    def _check_methods(self) -> None:
        """Variants have rewards and gold answers if their method learns from rewards, and no rewards otherwise."""
        for name, variant in self.variants.items():
            method, rewarded = self.variant_method(name), self.traits(name).learns_from_rewards
            if variant.rewards is not None and not rewarded:
                raise ValueError(
                    f"variants.{name}.rewards: method {method} learns the answers and has no rewards; leave them out, "
                    "or set method: grpo"
                )
            if rewarded and self.extract.answers == "free":
                raise ValueError(
                    f"extract.answers = free: variant {name} is of method {method}, whose rewards need a number as "
                    "the answer to each question; set answers: gsm8k, or method: sft"
                )
            for reward in self.reward_names(name):
                self._check_form(name, reward)
            self._check_pairs(name, method)

    def _check_pairs(self, variant: str, method: Method) -> None:
        """A batch holds whole groups if the method makes a pair of each."""
        batch, group = self.train.per_device_train_batch_size, self.train.num_generations
        if METHODS[method].learns_from_pairs and batch % group:
            raise ValueError(
                f"train.per_device_train_batch_size = {batch}: must be a multiple of num_generations ({group}) for "
                f"method {method} of variant {variant}, which makes a pair of each group"
            )

    def _check_correction(self) -> None:
        """The loss vespo has no correction of whole completions for vLLM."""
        train, mode = self.train, self.train.vllm_importance_sampling_mode
        corrected = train.vllm_importance_sampling_correction and train.old_log_probs == "computed"
        if self.engine != "transformers" and corrected and train.loss_type == "vespo" and mode.startswith("sequence"):
            raise ValueError(
                f"train.vllm_importance_sampling_mode = {mode}: loss_type 'vespo' needs one of token_truncate, "
                "token_mask"
            )

    def _check_form(self, variant: str, reward: str) -> None:
        of, form = self.variant_rewards(variant).set, self.extract.answer_form
        usable = names_for(of, form)
        if reward not in usable:
            choices = f"choose from {', '.join(usable)}" if usable else "set rewards.set: robust"
            raise ValueError(
                f"extract.answer_form = {form}: the reward {reward} of the set '{of}', which variant {variant} uses, "
                f"knows tags only; {choices}"
            )

    def variant_method(self, variant: str) -> Method:
        return self.variants[variant].method or self.method

    def gpus_of(self, variant: str) -> int:
        """The GPUs that train a variant together."""
        return self.variants[variant].gpus or self.gpus

    def traits(self, variant: str) -> MethodTraits:
        """What other rooms need to know of a variant's method."""
        return METHODS[self.variant_method(variant)]

    def settings_of(self, variant: str) -> Train | Sft:
        """The section that holds the settings of a variant's method, with the learning rate of the method's own."""
        traits = self.traits(variant)
        settings: Train | Sft = getattr(self, traits.section)
        own = traits.own_section and getattr(self, traits.own_section)
        if own and own.learning_rate:
            return settings.model_copy(update={"learning_rate": own.learning_rate})
        return settings

    def reference_weight(self, method: Method) -> float:
        """The weight of what compares the policy with the model that it starts from; with 0 no reference is loaded."""
        own = METHODS[method].own_section
        return getattr(self, own).reference_weight if own else self.train.beta

    @property
    def further_runs(self) -> dict[str, tuple[str, int]]:
        """Variant and seed of each run with a further seed, by the run's name: `short_s43`."""
        return {f"{variant}_s{seed}": (variant, seed) for variant in self.variants for seed in self.seeds}

    @property
    def runs(self) -> dict[str, dict[int, str]]:
        """The names of each variant's training runs by seed; the run with the first seed has the variant's name."""
        runs = {variant: {self.seed: variant} for variant in self.variants}
        for run, (variant, seed) in self.further_runs.items():
            runs[variant][seed] = run
        return runs

    def of_run(self, name: str) -> "Params":
        """The configuration of one model.

        For a run with a further seed it has that seed, the variant under the run's name with a start of the same seed,
        and only those kept checkpoints that other variants start from; for any other model it is unchanged.
        """
        if name not in self.further_runs:
            return self
        variant, seed = self.further_runs[name]
        run = self.variants[variant].model_copy(update={"start": self._start(variant, seed)})
        own = {"seed": seed, "seeds": [], "variants": {name: run}, "keep_checkpoints": self._started_steps(variant)}
        return self.model_copy(update=own)

    def _start(self, variant: str, seed: int) -> str | None:
        """What a variant's run with a seed starts from."""
        start = self.variants[variant].start
        return start and starts.with_seed(start, self.runs, seed)

    def _started_steps(self, variant: str) -> list[int]:
        """The kept steps of a variant that others start from."""
        used = {other.start for other in self.variants.values()}
        return [step for step in self.kept_steps(variant) if f"{variant}@{step}" in used]

    def resolved(self) -> dict[str, Any]:
        """Every key with its value, and the keys that follow from them.

        The runs with further seeds are among the variants, each with its `seed`, and with the `keep_checkpoints` that
        others start from.  A variant with a start has the start's section as `start_variant`, so that what depends on
        the variant's section also depends on that of its start.
        """
        keys = self.model_dump()
        sections: dict[str, dict[str, Any]] = dict(keys["variants"])
        for run, (of, seed) in self.further_runs.items():
            steps = self._started_steps(of)
            kept = {"keep_checkpoints": steps} if steps else {}
            sections[run] = sections[of] | kept | {"seed": seed, "start": self._start(of, seed)}
        return keys | {"variants": {run: starts.with_start(section, sections) for run, section in sections.items()}}

    @property
    def headline_variant(self) -> str:
        """The variant that the report's first sentence is about: the last one that is not a control, else the last one.

        A control has rewards or a method of its own.
        """
        trained = [name for name, variant in self.variants.items() if not (variant.rewards or variant.method)]
        return (trained or list(self.variants))[-1]

    def variant_rewards(self, variant: str) -> Rewards:
        return self.variants[variant].rewards or self.rewards

    def reward_names(self, variant: str) -> list[str]:
        return list(self.variant_rewards(variant).weights) if self.traits(variant).learns_from_rewards else []

    def kept_steps(self, variant: str) -> list[int]:
        """The steps after which a variant's weights are kept; a length in epochs leaves out none of them."""
        length = self.variants[variant].max_steps
        return [step for step in self.keep_checkpoints if length is None or step < length]

    def model_names(self) -> list[str]:
        """Every model that can be evaluated: base, the runs, and the kept checkpoints as `short@100`."""
        return ["base", *self.variants, *self.further_runs, *self._kept_models()]

    def _kept_models(self) -> list[str]:
        return [f"{variant}@{step}" for variant in self.variants for step in self.kept_steps(variant)]


def load(path: Path = Path("params.yaml"), overrides: Mapping[str, Any] = {}) -> Params:
    """The validated configuration.

    Args:
        path: params.yaml.
        overrides: keys and values that replace those of the files; `{"train.prompts": 64}` and
            `{"train": {"prompts": 64}}` are the same.

    Raises:
        PipelineError: naming the key, the value and what is allowed.
    """
    file = layers.read(path)
    edited = layers.merge(file, layers.nested(overrides))
    recipe = edited.get("recipe")
    if recipe not in recipes():
        raise PipelineError(f"{path}: recipe = {errors.as_written(recipe)}: choose from {', '.join(recipes())}")
    merged = _with_more_sets(layers.merge(read_recipe(recipe), edited))
    try:
        params = Params.model_validate(merged)
    except ValidationError as error:
        reasons = "\n".join(f"  {line}" for line in errors.explain(error, Params))
        raise PipelineError(f"the configuration ({path}, recipe {recipe}) is not valid:\n{reasons}") from None
    starts.require_order(path, file.get("variants") or {})
    return params


def _with_more_sets(keys: dict[str, Any]) -> dict[str, Any]:
    """The keys with the sets that `evaluate.more_sets` adds; keys of a wrong type stay as they are for the check."""
    match keys.get("evaluate"):
        case {"more_sets": True, "sets": dict(own), **others}:
            (added,) = more_sets().values()
            return keys | {"evaluate": others | {"more_sets": True, "sets": added | own}}
    return keys
