"""What the training of each variant starts from: base, another variant, or a checkpoint that another variant keeps."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gsm8k_grpo.config import errors
from gsm8k_grpo.config.sections import Variant
from gsm8k_grpo.files import PipelineError

Variants = Mapping[str, Variant]
BASE = "null (base)"  # how an error names the start of a variant that has none


def variant_of(model: str) -> str:
    """The variant that a model belongs to: `sft` for `sft` and for its kept checkpoint `sft@500`."""
    return model.partition("@")[0]


def with_seed(model: str, runs: Mapping[str, Mapping[int, str]], seed: int) -> str:
    """The model of the same training with another seed: `sft_s43@500` for `sft@500`; `runs` as `Params.runs`."""
    variant, at, step = model.partition("@")
    return f"{runs[variant][seed]}{at}{step}"


def chain(variants: Variants, name: str) -> list[str]:
    """A variant, the one that it was trained from, the one that this was trained from, and so on.

    If they make a circle, the chain ends with the first variant that occurs a second time.
    """
    links = [name]
    while (start := variants[links[-1]].start) is not None:
        again = variant_of(start) in links
        links.append(variant_of(start))
        if again:
            break
    return links


def require(variants: Variants, kept: list[str]) -> None:
    """Require that every start exists, and that no variant is, directly or through others, its own start.

    Args:
        variants: the section of the configuration.
        kept: the kept checkpoints, such as `sft@500`.

    Raises:
        ValueError: naming the key, the value and the valid choices.
    """
    for name, variant in variants.items():
        choices = [model for model in (*variants, *kept) if variant_of(model) != name]
        if variant.start is not None and variant.start not in choices:
            hint = " (keep_checkpoints names the steps that are kept)" if "@" in variant.start else ""
            raise ValueError(f"{_key(variants, name)}: choose from {', '.join([*choices, BASE])}{hint}")
    for name in variants:
        links = chain(variants, name)
        if len(set(links)) < len(links):
            choices = [other for other in variants if links[-1] not in chain(variants, other)]
            raise ValueError(
                f"{_key(variants, links[-2])}: makes a circle, {' from '.join(links)}; "
                f"choose from {', '.join([*choices, BASE])}"
            )


def require_order(path: Path, written: Mapping[str, Mapping[str, Any]]) -> None:
    """Require that a file lists a variant below its start, because `dvc repro` trains in the order of params.yaml.

    Args:
        path: params.yaml.
        written: its section `variants`, which is valid.

    Raises:
        PipelineError: if it does not; the message names both variants.
    """
    names = list(written)
    for index, name in enumerate(names):
        start = variant_of(written[name].get("start") or "")
        if start in names[index:]:
            raise PipelineError(
                f"{path}: variants.{name}.start = {errors.as_written(written[name]['start'])}: {start} must stand "
                f"above {name}, because `dvc repro` trains the variants in the order of the file"
            )


def ordered(variants: Variants) -> dict[str, Variant]:
    """The variants, each after those that it was trained from, and otherwise in the same order."""
    names = dict.fromkeys(link for name in variants for link in reversed(chain(variants, name)))
    return {name: variants[name] for name in names}


def _key(variants: Variants, name: str) -> str:
    return f"variants.{name}.start = {errors.as_written(variants[name].start)}"
