"""Error messages for the configuration: one line per error with the key, the value and what is allowed."""

import difflib
import json
import re
from typing import Any

from pydantic import BaseModel, ValidationError

KINDS = {
    "integer": "a whole number", "number": "a number", "string": "a text, not empty", "boolean": "true or false",
    "array": "a list", "object": "a section", "null": "null",
}  # fmt: skip
BOUNDS = {
    "minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below",
}  # fmt: skip
NUMBER = re.compile(r"[-+]?[0-9.]+([eE][-+]?[0-9]+)?")


def explain(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """One line per error that pydantic reports; `model` is the model of the whole configuration."""
    return [_explain(details, model) for details in error.errors()]


def _explain(error: Any, model: type[BaseModel]) -> str:
    """The line for one pydantic error: key, value, what is allowed."""
    where = [str(part) for part in error["loc"] if part != "[key]"]
    key = ".".join(where)
    if "[key]" in error["loc"]:
        return f"{key}: a name must consist of a-z, 0-9 and _ and begin with a letter"
    if error["type"] in ("extra_forbidden", "invalid_key"):
        known = sorted(schemas(model, where[:-1])[0]["properties"])
        close = difflib.get_close_matches(where[-1], known, n=1)
        hint = f"did you mean {'.'.join([*where[:-1], close[0]])}? " if close else ""
        return f"{key}: no such key; {hint}allowed: {', '.join(known)}"
    if error["type"] == "value_error":
        return ".".join([*where, str(error["ctx"]["error"])])
    allowed = ", or ".join(map(describe, schemas(model, where)))
    if error["type"] == "missing":
        return f"{key}: the key is missing; it must be {allowed}"
    if error["type"] == "finite_number":
        allowed = "finite"
    return f"{key} = {as_written(error['input'])}: must be {allowed}{_quotes(error['input'], allowed)}"


def as_written(value: Any) -> str:
    """A value as it would be written in YAML (or JSON) in one line."""
    return json.dumps(value, ensure_ascii=False, default=str)


def _quotes(value: Any, allowed: str) -> str:
    """A hint if adding or removing quotes would make the value valid."""
    if "number" in allowed and isinstance(value, str) and NUMBER.fullmatch(value):
        return "; write it without quotes"
    if allowed.startswith(KINDS["string"]) and isinstance(value, int | float):
        return "; write it in quotes"
    return ""


def schemas(model: type[BaseModel], where: list[str]) -> list[dict[str, Any]]:
    """The JSON schemas of the values that a key allows, null last.

    Args:
        model: the model of the whole configuration.
        where: the key, part by part; a part may be a name that the user chose, such as that of a variant.
    """
    whole = model.model_json_schema()
    schemas = [whole]
    for part in where:
        section = schemas[0]
        any_key = [*section.get("patternProperties", {}).values(), section.get("additionalProperties")]
        child = section.get("properties", {}).get(part) or any_key[0] or section["items"]
        schemas = [
            whole["$defs"][choice["$ref"].rpartition("/")[2]] if "$ref" in choice else choice
            for choice in child.get("anyOf", [child])
        ]
    return schemas


def describe(schema: dict[str, Any]) -> str:
    """What a JSON schema allows, in words: `a whole number, at least 1`."""
    if "enum" in schema:
        return f"one of {', '.join(schema['enum'])}"
    if "const" in schema:
        return str(schema["const"])
    if "properties" in schema:
        return f"a section with the keys {', '.join(sorted(schema['properties']))}"
    if "items" in schema:
        return f"a list, each {describe(schema['items'])}"
    if isinstance(schema.get("additionalProperties"), dict) and "type" in schema["additionalProperties"]:
        return f"a section, each {describe(schema['additionalProperties'])}"
    return ", ".join([KINDS[schema["type"]], *(f"{BOUNDS[key]} {schema[key]}" for key in BOUNDS if key in schema)])
