"""The configuration: a recipe, then params.yaml, then overrides from the command line, typed and checked.

`load` merges them key by key and checks the result before any work starts.  Every error names the key, the value and
what is allowed; unknown keys are errors.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError, model_validator

from gsm8k_grpo.config import consistency, errors, layers, starts
from gsm8k_grpo.config.methods import METHODS, MethodTraits
from gsm8k_grpo.config.recipes import more_sets, read_recipe, recipes
from gsm8k_grpo.config.sections import Configuration, Method, Rewards, Sft, Train
from gsm8k_grpo.files import PipelineError


class Params(Configuration):
    """The configuration, checked as a whole, and what follows from it: runs with their names and settings."""

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
        consistency.require(self)
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
        """Order the variants, so that tables and comparisons have each one after the one that it was trained from."""
        return self.model_copy(update={"variants": starts.ordered(self.variants)})

    def variant_method(self, variant: str) -> Method:
        return self.variants[variant].method or self.method

    def gpus_of(self, variant: str) -> int:
        """The number of GPUs that train a variant together."""
        return self.variants[variant].gpus or self.gpus

    def is_sharded(self, variant: str) -> bool:
        """Whether the weights of a variant are divided between the GPUs that train it."""
        return self.shard_weights and self.gpus_of(variant) > 1

    def traits(self, variant: str) -> MethodTraits:
        """What other rooms need to know about a variant's method."""
        return METHODS[self.variant_method(variant)]

    def settings_of(self, variant: str) -> Train | Sft:
        """The settings of a variant's method, with the learning rate of the method's own section if that has one."""
        traits = self.traits(variant)
        settings: Train | Sft = getattr(self, traits.section)
        own = traits.own_section and getattr(self, traits.own_section)
        if own and own.learning_rate:
            return settings.model_copy(update={"learning_rate": own.learning_rate})
        return settings

    def reference_weight(self, method: Method) -> float:
        """The weight of the term that compares the policy with its start; if it is 0, no reference model is loaded."""
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

        For a run with a further seed, it has that seed, the variant under the run's name with a start of the same seed,
        and only those kept checkpoints that other variants start from.  For any other model it is unchanged.
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
        """The steps after which a variant's weights are kept; for a length in epochs these are all of them."""
        length = self.variants[variant].max_steps
        return [step for step in self.keep_checkpoints if length is None or step < length]

    def model_names(self) -> list[str]:
        """Every model that can be evaluated: base, the runs, and the kept checkpoints, such as `short@100`."""
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
