"""The reference of the configuration, docs/params.md: every key, what it may be, what `tiny` has, what it means.

Types and choices come from params.py and sections.py, meanings from the comments of params.yaml and of `tiny`.
`python -m gsm8k_grpo.reference` (`make docs`) writes it; a test compares it with the code.
"""

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from gsm8k_grpo.config import errors, layers, params
from gsm8k_grpo.files import write_text

PLACE = Path("docs/params.md")
RECIPE = "tiny"
ANY_NAME = "NAME"
HEAD = f"""\
# Reference of the configuration

<!-- Written by `make docs` from workflow/gsm8k_grpo/sections.py and from the comments of params.yaml and
workflow/recipes/{RECIPE}.yaml: change those. -->

Any key may stand in [`params.yaml`](../params.yaml), which goes over the recipe it names
([`workflow/recipes/`](../workflow/recipes)); `--config` and `--set` go over both.  A section merges key by key, but
`weights` of rewards replace those beneath as a whole.  `{ANY_NAME}` stands for a name of one's own.  Where a comment
explains several keys, it stands at the first.
"""

Key = tuple[str, ...]


def comments(path: Path) -> dict[Key, str]:
    """The comment above each key of a YAML file, and for keys that share one, the name of the first."""
    text = path.read_text(encoding="utf-8")
    found: dict[Key, str] = {}
    _collect(yaml.compose(text, layers.Loader), text.splitlines(), (), found)
    return found


def _collect(node: yaml.MappingNode, lines: list[str], above: Key, found: dict[Key, str]) -> None:
    first = ""
    for key, value in node.value:
        own = _comment(lines, key.start_mark.line)
        if own:
            first = key.value
            found[*above, key.value] = own
        elif first and not isinstance(value, yaml.MappingNode):
            found[*above, key.value] = f"see `{first}`"
        if isinstance(value, yaml.MappingNode):
            first = ""
            _collect(value, lines, (*above, key.value), found)


def _comment(lines: list[str], line: int) -> str:
    """The comment that ends right above a line, as Markdown: what is indented in it is code."""
    begin = line
    while begin and lines[begin - 1].lstrip().startswith("#"):
        begin -= 1
    parts = [text.strip().removeprefix("# ") for text in lines[begin:line]]
    said = " ".join(f"`{part.strip()}`" if part.startswith("  ") else part for part in parts)
    return said.replace("` `", "`, `")


def reference(root: Path) -> str:
    """The page, as Markdown; `root` is the folder of params.yaml."""
    recipe = params.RECIPES / f"{RECIPE}.yaml"
    meanings = comments(recipe) | comments(root / "params.yaml")
    values = layers.merge(layers.read(recipe), layers.read(root / "params.yaml"))
    return "\n".join([HEAD, *_section((), "Keys without a section", meanings, values)])


def _section(where: Key, title: str, meanings: dict[Key, str], values: Any) -> Iterator[str]:
    """A heading, what the section is, a table of its keys; then the sections in it."""
    schema = errors.schemas(params.Params, list(where))[0]
    inner = {(*where, name): _sections_of((*where, name)) for name in schema["properties"]}
    keys = [key for key, sections in inner.items() if not sections]
    introduction = list(_introduction(where, schema, meanings, values)) if where else []
    if keys or introduction:
        yield f"## {title}\n"
    yield from introduction
    if keys:
        yield "| key | value | `tiny` | meaning |\n|---|---|---|---|"
        yield from (_row(key, meanings, values) for key in keys)
        yield ""
    for key, sections in inner.items():
        for section in sections:
            path = (*key, *section)
            yield from _section(path, f"`{'.'.join(path)}`", meanings, values)


def _sections_of(where: Key) -> list[Key]:
    """The paths below a key that are sections: itself, any name below it, or none where it holds a value."""
    schema = errors.schemas(params.Params, list(where))[0]
    if "properties" in schema:
        return [()]
    named = [*schema.get("patternProperties", {}).values(), schema.get("additionalProperties")][0]
    return [(ANY_NAME,)] if named and "$ref" in named else []


def _introduction(where: Key, schema: dict[str, Any], meanings: dict[Key, str], values: Any) -> Iterator[str]:
    named = where[-1] == ANY_NAME
    key = where[:-1] if named else where
    if text := meanings.get(key) or " ".join(schema.get("description", "").split()):
        yield textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False) + "\n"
    if named or _value(key, values) == "`null`":
        yield f"In `{RECIPE}`: {_value(key, values)}.\n"


def _row(key: Key, meanings: dict[Key, str], values: Any) -> str:
    allowed = ", or ".join(map(errors.describe, errors.schemas(params.Params, list(key))))
    cells = [f"`{key[-1]}`", allowed, _value(key, values), meanings.get(key, "")]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _value(key: Key, values: Any) -> str:
    """What `tiny` with params.yaml has for a key, as code; nothing where it has no such key."""
    for name in key:
        if not isinstance(values, dict) or name not in values:
            return ""
        values = values[name]
    return f"`{json.dumps(values, ensure_ascii=False)}`"


if __name__ == "__main__":
    write_text(PLACE, reference(Path()))
