"""The layers of the configuration: YAML files and command-line overrides, read and merged into one mapping."""

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from gsm8k_grpo.files import PipelineError

# Sections that a higher layer replaces as a whole; `*` is any name.  Weights belong to the reward set next to them, and
# `evaluate.sets` names all further test sets, so that `{}` means none.
WHOLE = ("rewards.weights", "variants.*.rewards.weights", "evaluate.sets")
ENVIRONMENT = "GSM8K_GRPO_CONFIG"  # the environment variable that hands the workflow's --config to the stages, as JSON


def parse(text: str) -> Any:
    """The value of a YAML 1.2 text, in which `5e-6` is a number; a key that occurs twice is an error."""
    return YAML(typ="safe", pure=True).load(text)


class Dumper(yaml.SafeDumper):
    """PyYAML writes YAML 1.1; this also quotes texts that `parse`, and DVC, would read as numbers."""


NUMBER = re.compile(r"[-+]?[0-9.]+[eE][-+]?[0-9]+|0o[0-7]+")  # numbers in YAML 1.2, but not in 1.1
Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style="'" if NUMBER.fullmatch(text) else None
    ),
)


def written(value: Any, **options: Any) -> str:
    """A value as YAML, which `parse` reads as the same value; the options are PyYAML's."""
    return yaml.dump(value, Dumper=Dumper, allow_unicode=True, **options)


def read(path: Path) -> dict[str, Any]:
    """The keys and values of a YAML file."""
    try:
        content = parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PipelineError(f"{path}: no such file; run from the folder that holds params.yaml") from None
    except UnicodeDecodeError as error:
        raise PipelineError(f"{path}: not UTF-8 ({error.reason} at byte {error.start})") from None
    except MarkedYAMLError as error:
        raise PipelineError(f"{path}:{error.problem_mark.line + 1}: not valid YAML: {reason(error)}") from None
    except (YAMLError, ValueError) as error:
        raise PipelineError(f"{path}: not valid YAML: {reason(error)}") from None
    if not isinstance(content, dict):
        raise PipelineError(f"{path}: the file must hold keys with values, such as seed: 42")
    return content


def reason(error: Exception) -> str:
    reason = " ".join(str(getattr(error, "problem", error)).split())
    if isinstance(error, DuplicateKeyError):
        return reason.partition(" with value")[0]
    return f"{reason}: indent with spaces, not with tabs" if "'\\t'" in reason else reason


def nested(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Overrides with dotted keys as sections: `{"train.prompts": 64}` becomes `{"train": {"prompts": 64}}`."""
    sections: dict[str, Any] = {}
    for dotted, value in overrides.items():
        for key in reversed(dotted.split(".")):
            value = {key: value}
        sections = merge(sections, value, whole=())
    return sections


def merge(
    under: Mapping[str, Any], over: Mapping[str, Any], whole: tuple[str, ...] = WHOLE, section: str = ""
) -> dict[str, Any]:
    """Merge two mappings: sections merge key by key, and every other value of `over` replaces that of `under`.

    Args:
        whole: dotted keys of the sections that are replaced as a whole, see `WHOLE`.
        section: the dotted key of the section that the mappings hold; "" is the whole configuration.
    """
    merged = dict(under)
    for key, value in over.items():
        dotted = f"{section}.{key}" if section else str(key)
        deep = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping) and not replaced(dotted, whole)
        merged[key] = merge(merged[key], value, whole, dotted) if deep else value
    return merged


def replaced(dotted: str, whole: tuple[str, ...] = WHOLE) -> bool:
    """Whether the section at a dotted key replaces that of a lower layer as a whole."""
    return any(fnmatchcase(dotted, pattern) for pattern in whole)
