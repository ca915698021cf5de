"""Read the user's own files.  The ending of the name says whether a file is JSON lines, CSV or Parquet."""

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from gsm8k_grpo.files import PipelineError, first_line, parse_jsonl

Parsed = TypeVar("Parsed")
Parse = Callable[[dict[str, Any]], Parsed]
ENDINGS = (".jsonl", ".csv", ".parquet")


def split_files(folder: Path, split: str) -> list[Path]:
    """The files of a folder that hold a split: `train.jsonl`, `train.csv` or `train.parquet`."""
    return [path for path in (folder / f"{split}{ending}" for ending in ENDINGS) if path.is_file()]


def parse_file(path: Path, parse: Parse[Parsed]) -> Iterator[Parsed]:
    """Parse a file of any of ENDINGS row by row.

    Args:
        parse: gets a row as values by column, and raises a ValueError if the row is damaged.

    Raises:
        PipelineError: naming file, line or row, and reason.
    """
    match path.suffix:
        case ".csv":
            return _parse_csv(path, parse)
        case ".parquet":
            return _parse_parquet(path, parse)
        case ".jsonl":
            return parse_jsonl(path, parse)
    raise PipelineError(f"{path}: the name must end in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}")


def _parse_csv(path: Path, parse: Parse[Parsed]) -> Iterator[Parsed]:
    """Parse a CSV file, whose first line names the columns.  An error names the last line of its row, which may span
    several lines.
    """
    reader = csv.DictReader(io.StringIO(_text(path), newline=""), strict=True)
    try:
        for row in reader:
            if None in row:
                raise ValueError(f"more fields than the {len(reader.fieldnames or [])} columns")
            yield parse(row)
    except csv.Error as error:
        raise PipelineError(f"{path}:{reader.line_num + 1}: broken CSV ({error})") from error
    except ValueError as error:
        raise PipelineError(f"{path}:{reader.line_num}: {error}") from error
    if reader.line_num < 2:
        raise PipelineError(f"{path}:1: the file has no rows")


def _text(path: Path) -> str:
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise PipelineError(f"{path}:{line}: not UTF-8 ({error.reason})") from error


def _parse_parquet(path: Path, parse: Parse[Parsed]) -> Iterator[Parsed]:
    from pyarrow import ArrowException, parquet  # takes half a second to import, and only such files need it

    try:
        rows = parquet.read_table(path).to_pylist()
    except (ArrowException, OSError) as error:
        raise PipelineError(f"{path}: not a Parquet file that can be read ({first_line(error)})") from error
    if not rows:
        raise PipelineError(f"{path}: the file has no rows")
    for number, row in enumerate(rows, start=1):
        try:
            yield parse(row)
        except ValueError as error:
            raise PipelineError(f"{path}: row {number}: {error}") from error
