"""Compare the results of two folders in which `make report` has run: has a change of the code changed any result?

    python benchmarks/same_results.py OLD NEW

OLD and NEW are two checkouts of the project, each with its `results/`.  Weights, data, answers, samples and comparisons
must agree to the byte.  What a clock, a meter or MLflow writes is left out: times, memory, energy and identifiers of
runs in `metrics.json`, three columns of `history.csv`, three figures of a model card.  `results/report` is not
compared: it shows what the other files hold.  The exit status is 1 if a file differs or exists on one side only.
"""

import argparse
import csv
import json
import re
import sys
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml

CLOCK_COLUMNS = {"seconds_generate", "seconds_score", "seconds_update"}
MEASURED_KEYS = re.compile(
    r"seconds(_\w+)?|peak_memory_gib|energy_kwh"  # differ from run to run
    r"|sessions|mlflow_run_id|mlflow_run_key"  # differ from checkout to checkout
)
# In the model card: the commit of the code, the training's minutes, its peak of memory.
CARD_FIGURES = re.compile(r"(?<=commit `)[^`]+(?=`)|[\d.]+(?= minutes on )|[\d.]+(?= GiB)")
BOOKKEEPING = ".snakemake_timestamp"  # Snakemake writes it into the folders that its jobs produce


def metrics(path: Path) -> Any:
    """The content of a `metrics.json` without what is measured anew in every run, and without the trainer's class."""
    content = _without_measured(json.loads(path.read_bytes()))
    content.get("effective_config", {}).pop("trainer", None)
    return content


def _without_measured(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_measured(kept) for key, kept in value.items() if not MEASURED_KEYS.fullmatch(key)}
    return [_without_measured(kept) for kept in value] if isinstance(value, list) else value


def history(path: Path) -> list[str]:
    """The lines of a `history.csv` without the columns that a clock writes."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    kept = [place for place, column in enumerate(rows[0]) if column not in CLOCK_COLUMNS]
    return [",".join(row[place] for place in kept) for row in rows]


def card(path: Path) -> list[str]:
    """The lines of a model card without commit, minutes and GiB."""
    return CARD_FIGURES.sub("...", path.read_text(encoding="utf-8")).splitlines()


def configuration(path: Path) -> Any:
    return yaml.safe_load(path.read_bytes())


# What must be equal of each file of results/, by the first pattern that fits; `*` matches folders too.
READERS: dict[str, Callable[[Path], Any]] = {
    "base/metrics.json": metrics,
    "base/*": Path.read_bytes,
    "train/*/model/*": Path.read_bytes,
    "train/*/checkpoints/*": Path.read_bytes,
    "train/*/samples.jsonl": Path.read_bytes,
    "train/*/history.csv": history,
    "train/*/metrics.json": metrics,
    "train/*/README.md": card,
    "evaluate/*/metrics.json": metrics,
    "evaluate/*.jsonl": Path.read_bytes,
    "download/*": Path.read_bytes,
    "extract/*": Path.read_bytes,
    "compare/*.json": Path.read_bytes,
    "configure/params.yaml": configuration,
}


def reader(name: str) -> Callable[[Path], Any] | None:
    """How the file of that path within results/ is read; None for one that is not compared."""
    return next((read for pattern, read in READERS.items() if fnmatch(name, pattern)), None)


def compared_files(results: Path) -> set[str]:
    paths = (path for path in results.rglob("*") if path.is_file() and path.name != BOOKKEEPING)
    return {name for path in paths if reader(name := path.relative_to(results).as_posix())}


def difference(old: Any, new: Any, where: str = "") -> str:
    """The first place where two different values part: a byte, a line or a key, with both values."""
    if isinstance(old, bytes) and isinstance(new, bytes):
        pairs = enumerate(zip(old, new, strict=False))
        place = next((place for place, (a, b) in pairs if a != b), min(len(old), len(new)))
        return f"byte {place:,} of {len(old):,} and {len(new):,}"
    if isinstance(old, dict) and isinstance(new, dict):
        if only := sorted(old.keys() ^ new.keys()):
            return f"{where}{only[0]}: only in {'OLD' if only[0] in old else 'NEW'}"
        key = next(key for key in old if old[key] != new[key])
        return difference(old[key], new[key], f"{where}{key}.")
    if isinstance(old, list) and isinstance(new, list):
        if len(old) != len(new):
            return f"{where}{len(old)} and {len(new)} entries"
        place = next(place for place, (a, b) in enumerate(zip(old, new, strict=True)) if a != b)
        return difference(old[place], new[place], f"{where}{place + 1}.")  # the number of a line, too
    return f"{where.removesuffix('.')}: {old!r} -> {new!r}"


def renamed_trainer(old: Path, new: Path) -> str:
    """A note where two trainings name different classes of trainer: a new name is no new result."""
    before, after = (json.loads(path.read_bytes()).get("effective_config", {}).get("trainer") for path in (old, new))
    return "" if before == after else f" (effective_config.trainer renamed: {before} -> {after})"


def compare(old: Path, new: Path) -> Iterator[tuple[str, bool, str]]:
    """Each file of two results folders: its name, whether it is the same in both, and a remark."""
    in_old, in_new = compared_files(old), compared_files(new)
    for name in sorted(in_old | in_new):
        if name not in in_old & in_new:
            yield name, False, f" only in {'OLD' if name in in_old else 'NEW'}"
            continue
        read = reader(name) or Path.read_bytes
        before, after = read(old / name), read(new / name)
        note = renamed_trainer(old / name, new / name) if read is metrics else ""
        yield name, before == after, note if before == after else f" {difference(before, after)}{note}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path, metavar="OLD", help="folder of the project, with results/")
    parser.add_argument("new", type=Path, metavar="NEW", help="the folder to compare with it")
    options = parser.parse_args(arguments)
    for folder in (options.old, options.new):
        if not (folder / "results").is_dir():
            parser.error(f"{folder} has no folder results/: run `make report` there first")
    differing = same = 0
    for name, equal, remark in compare(options.old / "results", options.new / "results"):
        print(f"{'same   ' if equal else 'DIFFERS'} results/{name}{remark}")
        same, differing = same + equal, differing + (not equal)
    print(f"{same} files the same, {differing} differ")
    return int(differing > 0)


if __name__ == "__main__":
    sys.exit(main())
