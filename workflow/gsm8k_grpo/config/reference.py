"""The reference of the configuration, docs/params.md: each key, the values allowed, the value in `tiny`, the meaning.

All of it comes from the fields of `sections`: types, choices, and the docstring under each field, which is its meaning.
`python -m gsm8k_grpo.config.reference` (`make docs`) writes the page; a test compares it with the code.
"""

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gsm8k_grpo.config import errors, layers, recipes
from gsm8k_grpo.config.sections import Configuration
from gsm8k_grpo.files import write_text

PLACE = Path("docs/params.md")
RECIPE = "tiny"
ANY_NAME = "NAME"
HEAD = f"""\
# Reference of the configuration

<!-- `make docs` writes this page from the fields in workflow/gsm8k_grpo/config/sections: change those. -->

A recipe ([`workflow/recipes/`](../workflow/recipes)) holds the keys whose values differ from those of the file that it
extends; the last of these files is [`defaults.yaml`](../workflow/recipes/defaults.yaml), which has every key.
[`params.yaml`](../params.yaml) names the recipe and may set any key: its values replace those of the recipe, and those
of `--config` and `--set` replace both.  Sections merge key by key, but `weights` of rewards and `evaluate.sets` are
replaced as a whole.  `gsm8k-grpo configure --print` shows every value with the file or option that it comes from.

`{ANY_NAME}` is a name that you choose.
"""

Key = tuple[str, ...]


def reference(root: Path) -> str:
    """The page, as Markdown; `root` is the folder of params.yaml."""
    values = layers.merge(recipes.read_recipe(RECIPE), layers.read(root / "params.yaml"))
    return "\n".join([HEAD, *_section((), "Keys without a section", values)])


def _section(where: Key, title: str, values: dict[str, Any]) -> Iterator[str]:
    """A heading, the meaning of the section, a table of its keys, and then the sections in it."""
    inner = {(*where, name): _sections_below((*where, name)) for name in _schema(where)["properties"]}
    rows = [_row(key, values) for key, sections in inner.items() if not sections]
    if where:
        yield f"## {title}\n"
        yield from _introduction(where, values)
    elif rows:
        yield f"## {title}\n"
    if rows:
        yield "| key | value | `tiny` | meaning |\n|---|---|---|---|"
        yield from rows
        yield ""
    for key, sections in inner.items():
        for section in sections:
            path = (*key, *section)
            yield from _section(path, f"`{'.'.join(path)}`", values)


def _sections_below(key: Key) -> list[Key]:
    """The paths from a key to the sections in it: the key itself, a section of any name, or none for a value."""
    schema = _schema(key)
    if "properties" in schema:
        return [()]
    named = [*schema.get("patternProperties", {}).values(), schema.get("additionalProperties")][0]
    return [(ANY_NAME,)] if named and "$ref" in named else []


def _introduction(section: Key, values: dict[str, Any]) -> Iterator[str]:
    key = section[:-1] if section[-1] == ANY_NAME else section
    yield textwrap.fill(_meaning(key), 120, break_long_words=False, break_on_hyphens=False) + "\n"
    if key != section or _value(key, values) == "`null`":
        yield f"In `{RECIPE}`: {_value(key, values)}.\n"


def _row(key: Key, values: dict[str, Any]) -> str:
    allowed = ", or ".join(map(errors.describe, errors.schemas(Configuration, list(key))))
    cells = [f"`{key[-1]}`", allowed, _value(key, values), _meaning(key)]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _schema(key: Key) -> dict[str, Any]:
    return errors.schemas(Configuration, list(key))[0]


def _meaning(key: Key) -> str:
    """The docstring under the key's field; pydantic leaves it out if it equals the docstring of the section."""
    field = _schema(key[:-1])["properties"][key[-1]]
    return " ".join(field.get("description", _schema(key).get("description", "")).split())


def _value(key: Key, values: Any) -> str:
    """The value of a key in `tiny` with params.yaml, as code; empty if they do not have the key."""
    for name in key:
        if not isinstance(values, dict) or name not in values:
            return ""
        values = values[name]
    return f"`{json.dumps(values, ensure_ascii=False)}`"


if __name__ == "__main__":
    write_text(PLACE, reference(Path()))
