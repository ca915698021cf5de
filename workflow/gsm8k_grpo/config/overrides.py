"""Overrides from a command line, `key=value` of `--set` and of Snakemake's `--config`, typed by the configuration.

A value is read as YAML 1.2.  If the key holds a text, the value is kept as it is written, so `path=007` is no number.
Snakemake reads numbers and quotes in its own way, so this module takes what was typed, not what Snakemake made of it.
"""

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from gsm8k_grpo.config import errors, layers
from gsm8k_grpo.config.sections import Configuration
from gsm8k_grpo.files import PipelineError

# The scalars of YAML 1.2's core schema that are not texts.
NULL = re.compile(r"null|Null|NULL|~|")
BOOLEAN = re.compile(r"(true|True|TRUE)|false|False|FALSE")
INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


def parse_override(text: str) -> tuple[str, Any]:
    """Key and value of `key=value`.

    Raises:
        PipelineError: if it has no `=`, or the value is not valid YAML.
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise PipelineError(f"'{text}': an override is written key=value, such as train.learning_rate=1e-4")
    where = tuple(key.split("."))
    if "string" in _types(where) and value[:1] not in ("'", '"'):
        return key, _scalar(value, where)
    try:
        layers.parse(value)  # refuses what `compose` accepts, such as a key that occurs twice
        return key, _value(YAML(typ="safe", pure=True).compose(value), where)
    except (YAMLError, ValueError) as error:  # ValueError: a date with month 13
        raise PipelineError(f"'{text}': the value is not valid YAML: {layers.reason(error)}") from None


def from_snakemake(files: Iterable[Path], arguments: Iterable[str]) -> dict[str, Any]:
    """The keys of Snakemake's `--configfile`, with those of its `--config` in their place where both have one.

    Raises:
        PipelineError: see `parse_override` and `layers.read`.
    """
    overrides: dict[str, Any] = {}
    for layer in (*map(layers.read, files), *(dict([parse_override(argument)]) for argument in arguments)):
        overrides = layers.merge(overrides, layer, whole=())
    return overrides


def _value(node: Node | None, where: tuple[str, ...]) -> Any:
    """The value of a YAML node; `where` is its key, part by part."""
    if node is None:
        return None
    if isinstance(node, MappingNode):
        return {key.value: _value(value, (*where, key.value)) for key, value in node.value}
    if isinstance(node, SequenceNode):
        return [_value(item, (*where, "0")) for item in node.value]
    assert isinstance(node, ScalarNode)
    return node.value if node.style else _scalar(node.value, where)  # a style means that the scalar is quoted


def _scalar(text: str, where: tuple[str, ...]) -> Any:
    """The value of a scalar without quotes."""
    types = _types(where)
    if NULL.fullmatch(text) and ("null" in types or "string" not in types or not text):
        return None
    if "string" in types:
        return text
    if BOOLEAN.fullmatch(text):
        return text.lower() == "true"
    if INTEGER.fullmatch(text):
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if NUMBER.fullmatch(text):
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text


@cache
def _types(where: tuple[str, ...]) -> frozenset[str]:
    """The types of the values that a key allows; empty without such a key, or if it takes texts and other scalars."""
    try:
        kinds = frozenset(schema.get("type", "") for schema in errors.schemas(Configuration, list(where)))
    except (KeyError, TypeError):
        return frozenset()
    return frozenset() if "string" in kinds and kinds & {"number", "integer", "boolean"} else kinds
