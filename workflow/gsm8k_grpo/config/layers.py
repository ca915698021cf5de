"""The layers of the configuration: YAML files and command-line overrides, read and merged into one mapping."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from gsm8k_grpo.files import PipelineError

WHOLE = ("weights", "sets")  # sections that are given as a whole
ENVIRONMENT = "GSM8K_GRPO_CONFIG"  # carries the workflow's --config to the stages, as JSON


class Loader(yaml.SafeLoader):
    """YAML 1.2 floats: `5e-6` is a number, which PyYAML's 1.1 rules read as a text.  A key may stand only once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"the key '{key.value}' stands twice", problem_mark=key.start_mark
                )
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def parse_override(text: str) -> tuple[str, Any]:
    """`key=value` from a command line, the value read as YAML."""
    key, equals, value = text.partition("=")
    if not equals:
        raise PipelineError(f"'{text}': an override is written key=value, such as train.learning_rate=1e-4")
    try:
        return key, yaml.load(value, Loader)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date of month 13
        raise PipelineError(f"'{text}': the value is not valid YAML: {_reason(error)}") from None


def typed(config: Any) -> Any:
    """Snakemake's `--config` with its values typed: inside a nested value it hands every number over as text."""
    if isinstance(config, Mapping):
        return {key: typed(value) for key, value in config.items()}
    if isinstance(config, list):
        return [typed(value) for value in config]
    return yaml.load(config, Loader) if isinstance(config, str) and config else config


def read(path: Path) -> dict[str, Any]:
    """The keys and values of a YAML file."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader)
    except FileNotFoundError:
        raise PipelineError(f"{path}: no such file; run from the folder that holds params.yaml") from None
    except UnicodeDecodeError as error:
        raise PipelineError(f"{path}: not UTF-8 ({error.reason} at byte {error.start})") from None
    except yaml.MarkedYAMLError as error:
        raise PipelineError(f"{path}:{error.problem_mark.line + 1}: not valid YAML: {_reason(error)}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise PipelineError(f"{path}: not valid YAML: {_reason(error)}") from None
    if not isinstance(content, dict):
        raise PipelineError(f"{path}: keys and values are expected")
    return content


def _reason(error: Exception) -> str:
    reason = str(getattr(error, "problem", error))
    return f"{reason}: indent with spaces, not with tabs" if "'\\t'" in reason else " ".join(reason.split())


def nested(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Overrides with dotted keys as sections: `{"train.prompts": 64}` becomes `{"train": {"prompts": 64}}`."""
    sections: dict[str, Any] = {}
    for dotted, value in overrides.items():
        for key in reversed(dotted.split(".")):
            value = {key: value}
        sections = merge(sections, value, whole=())
    return sections


def merge(under: dict[str, Any], over: Mapping[str, Any], whole: tuple[str, ...] = WHOLE) -> dict[str, Any]:
    """`over` wins; sections merge key by key, those of `whole` replace as a whole.

    Weights belong to a reward set, and test sets are those that are named: `{}` is none.
    """
    merged = dict(under)
    for key, value in over.items():
        deep = isinstance(value, Mapping) and isinstance(merged.get(key), dict) and key not in whole
        merged[key] = merge(merged[key], value, whole) if deep else value
    return merged
