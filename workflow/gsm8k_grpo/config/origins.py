"""The resolved configuration as YAML, each value with the file or the option that it comes from."""

from collections.abc import Iterator, Mapping
from functools import reduce
from pathlib import Path
from typing import Any

from gsm8k_grpo.config import layers, recipes
from gsm8k_grpo.config.params import Params

UNSET = "not set"  # instead of an origin, for a key with a default that no file sets, such as variants.short.rewards


def annotated(params: Params, config: Mapping[str, Any], options: Mapping[str, Any], path: Path) -> str:
    """The configuration as YAML, each value with its origin as a comment.

    Args:
        params: the configuration that `path` and the overrides give.
        config: the overrides given with Snakemake's `--config`.
        options: the overrides given with `--set`, which replace those of `config`.
        path: params.yaml.
    """
    files = recipes.chain(params.recipe) | {str(path): layers.read(path)}
    overrides = layers.merge(
        _labelled(layers.nested(config), "--config"), _labelled(layers.nested(options), "--set"), whole=()
    )
    origins = reduce(layers.merge, [*(_labelled(keys, label) for label, keys in files.items()), overrides])
    if params.evaluate.more_sets:
        ((label, added),) = recipes.more_sets().items()
        own = origins["evaluate"]["sets"]
        origins["evaluate"]["sets"] = _labelled(added, label) | (own if isinstance(own, dict) else {})
    return "\n".join(_lines(params.model_dump(), origins))


def _labelled(keys: Mapping[str, Any], label: str, section: str = "") -> dict[str, Any]:
    """The keys of a layer with its label for every value, so that labels merge exactly as values do.

    An empty section replaces nothing and has no label, unless it replaces that of a lower layer as a whole.
    """
    labels: dict[str, Any] = {}
    for key, value in keys.items():
        dotted = f"{section}{key}"
        is_section = isinstance(value, Mapping) and (value or not layers.replaced(dotted))
        labels[key] = _labelled(value, label, f"{dotted}.") if is_section else label
    return labels


def _lines(values: Mapping[str, Any], origins: Any, indent: str = "") -> Iterator[str]:
    """The lines of a section; `origins` has labels by key, or is one label if a single layer gave the whole section."""
    for key, value in values.items():
        origin = origins.get(key, UNSET) if isinstance(origins, Mapping) else origins
        if isinstance(value, Mapping) and value:
            yield f"{indent}{key}:"
            yield from _lines(value, origin, f"{indent}  ")
        else:
            yield f"{indent}{key}: {_written(value)}  # {origin}"


def _written(value: Any) -> str:
    """A value as YAML in one line."""
    text = layers.written(value, default_flow_style=True, width=float("inf"))
    return text.removesuffix("...\n").strip()
