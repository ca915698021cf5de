"""Read and write the files that stages exchange.

Files and folders are written under another name in the same folder and then renamed, so that every one that exists is
complete.  Errors in data from outside name the file and the line.
"""

import codecs
import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

Parsed = TypeVar("Parsed")

LONGEST_LINE = 1_000_000  # bytes; GSM8K's longest row has 2,000, so a longer line is a fault and not a row


class PipelineError(Exception):
    """An error whose message says what is wrong, where, and what to do; it is shown without a traceback.

    The message may quote texts from outside, so it shows characters that control a terminal as escapes.
    """

    def __init__(self, message: str):
        super().__init__(visible(message))


def visible(text: str) -> str:
    """The text with escapes, such as `\\x1b`, for all unprintable characters except line breaks and tabs."""
    return "".join(
        character if character.isprintable() or character in "\n\t" else ascii(character)[1:-1] for character in text
    )


def first_line(error: BaseException) -> str:
    """The first line of an error's message, made `visible`, or the name of its class if it has no message."""
    lines = str(error).strip().splitlines()
    return visible(lines[0]) if lines else type(error).__name__


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _part(path)
    try:
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        error.filename = str(path)  # the error of a full disk names no file
        raise


@contextmanager
def replaced_folder(target: Path) -> Iterator[Path]:
    """Give the block a new, empty folder next to `target` to fill, and put it in the place of `target` afterwards.

    If the block fails, its folder is removed, and `target` stays as it was.
    """
    part = _part(target)
    shutil.rmtree(part, ignore_errors=True)  # a killed process may have left it
    part.mkdir(parents=True)
    try:
        yield part
        shutil.rmtree(target, ignore_errors=True)
        part.replace(target)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    write_text(path, "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows))


def read_json(path: Path) -> Any:
    return json.loads(_content(path))


def read_jsonl(path: Path) -> list[Any]:
    """The rows of a file that this pipeline wrote."""
    return [json.loads(line) for line in _content(path).splitlines()]


def parse_jsonl(path: Path, parse: Callable[[dict[str, Any]], Parsed]) -> Iterator[Parsed]:
    """Parse a file from outside row by row.

    Raises:
        PipelineError: naming file, line (from 1) and reason, if the file is empty, if a line is longer than
            LONGEST_LINE or not a JSON object in UTF-8, or if `parse` raises a ValueError.
    """
    lines = _content(path).removeprefix(codecs.BOM_UTF8).splitlines()
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
    if "\0" in text:  # a crash may leave it, and in UTF-16 it is every second byte of English text
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
        ValueError: if the key is missing, or its value is not a text, is blank, can't be written as UTF-8 or holds a
            NUL character.
    """
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"'{key}' is missing or not a text")
    if "\0" in value:
        raise ValueError(f"'{key}' holds a NUL character (\\u0000)")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:  # JSON can hold half of a surrogate pair, but UTF-8 can't
        raise ValueError(f"'{key}' holds half a character ({error.reason})") from None
    return value


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _part(path: Path) -> Path:
    """Where a file or folder is written until it is complete: on the same disk, so that it can be renamed."""
    return path.with_name(path.name + ".part")


def _content(path: Path) -> bytes:
    """The bytes of a file, whose splitlines() splits only at line breaks, whereas that of a str also does at U+2028."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise PipelineError(f"{path}: no such file; run the stage that writes it first") from None
