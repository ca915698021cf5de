"""Files between stages: whole or absent, and bad data named by file and line.

Every file is written beside its place and renamed, so that a file that exists is complete.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

Parsed = TypeVar("Parsed")

LONGEST_LINE = 1_000_000  # bytes; the longest row of GSM8K has 2,000, so a longer line is no row but a fault


class PipelineError(Exception):
    """An error that its message explains in full: what, where and what to do.  Shown without a traceback."""


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    try:
        beside.write_bytes(content)
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        error.filename = str(path)  # a write to a full disk names no file
        raise


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    write_text(path, "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows))


def read_json(path: Path) -> Any:
    return json.loads(_content(path))


def read_jsonl(path: Path) -> list[Any]:
    """The rows of a file that this pipeline wrote."""
    return [json.loads(line) for line in _content(path).splitlines()]


def parse_jsonl(path: Path, parse: Callable[[dict[str, Any]], Parsed]) -> Iterator[Parsed]:
    """Parse a file from outside row by row; the row of index 0 is line 1.

    Raises:
        PipelineError: with `file:line` and the reason, where the file is empty, where a line is longer than
            LONGEST_LINE or not a JSON object in UTF-8, or where `parse` raises a ValueError.
    """
    lines = _content(path).splitlines()
    if not lines:
        raise PipelineError(f"{path}:1: the file is empty")
    for number, line in enumerate(lines, start=1):
        try:
            yield parse(_object(line))
        except UnicodeDecodeError as error:
            raise PipelineError(f"{path}:{number}: not UTF-8 ({error.reason} at byte {error.start})") from error
        except json.JSONDecodeError as error:
            raise PipelineError(f"{path}:{number}: broken JSON ({error.msg} at column {error.colno})") from error
        except ValueError as error:
            raise PipelineError(f"{path}:{number}: {error}") from error


def _object(line: bytes) -> dict[str, Any]:
    if len(line) > LONGEST_LINE:
        raise ValueError(f"the line has {len(line):,} bytes, more than the {LONGEST_LINE:,} that a row may have")
    text = line.decode("utf-8")
    if "\0" in text:  # what a crash leaves in a file, and every second byte of UTF-16
        raise ValueError(f"a NUL byte at column {text.index(chr(0)) + 1}: the file is damaged, or not UTF-8")
    try:
        row = json.loads(text)
    except RecursionError:
        raise ValueError("broken JSON (nested too deep)") from None
    if not isinstance(row, dict):
        raise ValueError(f"a JSON object is expected, not {type(row).__name__}")
    return row


def text_field(row: dict[str, Any], key: str) -> str:
    """The text under a key of a row from outside.

    Raises:
        ValueError: where there is none, or none that UTF-8 can write, or where it holds a NUL character.
    """
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"'{key}' is missing or not a text")
    if "\0" in value:
        raise ValueError(f"'{key}' holds a NUL character (\\u0000)")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:  # JSON can hold one half of a surrogate pair, UTF-8 can't
        raise ValueError(f"'{key}' holds half a character ({error.reason})") from None
    return value


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _content(path: Path) -> bytes:
    """The bytes of a file; their lines end at line breaks only, not at U+2028 and its like as a str's do."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise PipelineError(f"{path}: no such file; run the stage that writes it first") from None
