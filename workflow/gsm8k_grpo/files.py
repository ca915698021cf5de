"""Files between stages: whole or absent, and bad data named by file and line.

Every file is written beside its place and renamed, so that a file that exists is complete.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

Parsed = TypeVar("Parsed")


class PipelineError(Exception):
    """An error that its message explains in full: what, where and what to do.  Shown without a traceback."""


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = text.encode("utf-8")
    beside = path.with_name(path.name + ".part")
    beside.write_bytes(content)
    beside.replace(path)


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    write_text(path, "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows))


def read_json(path: Path) -> Any:
    return json.loads(_content(path))


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The rows of a file that this pipeline wrote."""
    return [json.loads(line) for line in _content(path).splitlines()]


def parse_jsonl(path: Path, parse: Callable[[dict[str, Any]], Parsed]) -> Iterator[Parsed]:
    """Parse a file from outside row by row.

    Raises:
        PipelineError: with `file:line` and the reason, where a line is not a JSON object in UTF-8 or where
            `parse` raises a ValueError.
    """
    for number, line in enumerate(_content(path).splitlines(), start=1):
        try:
            row = json.loads(line.decode("utf-8"))
            if not isinstance(row, dict):
                raise ValueError(f"a JSON object is expected, not {type(row).__name__}")
            yield parse(row)
        except UnicodeDecodeError as error:
            raise PipelineError(f"{path}:{number}: not UTF-8 ({error.reason} at byte {error.start})") from error
        except json.JSONDecodeError as error:
            raise PipelineError(f"{path}:{number}: broken JSON ({error.msg} at column {error.colno})") from error
        except ValueError as error:
            raise PipelineError(f"{path}:{number}: {error}") from error


def text_of(row: dict[str, Any], key: str) -> str:
    """The text under a key of a row from outside.

    Raises:
        ValueError: where there is none, or none that UTF-8 can write.
    """
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"'{key}' is missing or not a text")
    value.encode("utf-8")  # a lone surrogate, which JSON can hold, raises UnicodeEncodeError, a ValueError
    return value


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _content(path: Path) -> bytes:
    """The bytes of a file; their lines end at line breaks only, not at U+2028 and its like as a str's do."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise PipelineError(f"{path}: no such file; run the stage that writes it first") from None
