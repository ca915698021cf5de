"""Stage `download`: the problems as published, from the hub, from a local folder, or generated.

Writes `results/download/{train,test}.jsonl` (`records.PublishedProblem`) and `source.json` (`records.Source`), which
has the origin, revision and licence of the problems, and the rows and sha256 of both files.

The further test sets that `evaluate.sets` names go to `results/download/sets/<name>.jsonl`; `sets/source.json` has a
`records.SetSource` for each, by its name.
"""

import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.config.sections import Generated, GeneratedSet, Hub, HubSplit, Local, QuestionSet
from gsm8k_grpo.files import PipelineError, first_line, sha256, text_field, write_json, write_jsonl
from gsm8k_grpo.gsm8k.problems import problems
from gsm8k_grpo.records import Origin, PublishedProblem, SetSource, Source
from gsm8k_grpo.runtime.progress import ProgressBar
from gsm8k_grpo.stages.download.local_files import parse_file, split_files

SPLITS = ("train", "test")
FILL_THE_CACHE = "fill the cache on a machine with a network and set HF_HUB_OFFLINE=1 and HF_HOME=CACHE here"
LOCAL_LICENCE = "as the owner of the folder says"
COMMIT = re.compile(r"[0-9a-f]{40}")
LONGEST_REASON = 200  # characters shown of an error of the hub's client

Problems = list[PublishedProblem]


# Train and test


def download(target: Path, params: Params) -> None:
    """Run the stage: write the problems of both splits, and where they come from, into the folder `target`.

    Raises:
        PipelineError: if the source can't be read, lacks a split or a column, or has a damaged row.
    """
    splits, origin = _splits(params)
    for split in SPLITS:
        write_jsonl(target / f"{split}.jsonl", splits[split])
    source: Source = {
        "source": params.source,
        **origin,
        "files": {
            f"{split}.jsonl": {"rows": len(splits[split]), "sha256": sha256(target / f"{split}.jsonl")}
            for split in SPLITS
        },
    }
    write_json(target / "source.json", source)


def _splits(params: Params) -> tuple[dict[str, Problems], Origin]:
    if params.source == "hub":
        return _from_hub(params.download.hub)
    if params.source == "local":
        assert params.path is not None, "Params refuses `source: local` without a path"
        return _from_folder(Path(params.path), params.download.local)
    return _generated(params.download.generated, params.seed)


def _from_hub(hub: Hub) -> tuple[dict[str, Problems], Origin]:
    published = _load_dataset(
        hub,
        "name a folder that holds train.jsonl and test.jsonl (--config source=local path=FOLDER), "
        f"or {FILL_THE_CACHE}, or use generated problems (--config source=generated)",
    )
    _require_columns(published, hub, SPLITS, "download.hub")
    splits = {split: _listed(_hub_rows(published[split], hub, split), split, len(published[split])) for split in SPLITS}
    return splits, _hub_origin(hub)


def _from_folder(folder: Path, local: Local) -> tuple[dict[str, Problems], Origin]:
    splits = {}
    for split in SPLITS:
        files = split_files(folder, split)
        if len(files) != 1:
            found = " and ".join(file.name for file in files) or f"no {split}.jsonl"
            raise PipelineError(
                f"path = {folder}: there is {found}; the folder must hold train.jsonl and test.jsonl, or .csv, or "
                ".parquet, one file each, with the columns of download.local"
            )
        splits[split] = _listed(parse_file(files[0], _reader(local, "download.local")), split)
    return splits, {"origin": folder.name, "revision": None, "licence": LOCAL_LICENCE}


def _generated(settings: Generated, seed: int) -> tuple[dict[str, Problems], Origin]:
    stream = problems(settings.problems, seed)
    splits = {
        "train": _listed(itertools.islice(stream, settings.train_rows), "train", settings.train_rows),
        "test": _listed(itertools.islice(stream, settings.test_rows), "test", settings.test_rows),
    }
    return splits, _generated_origin(settings, seed)


# Further test sets


def download_sets(target: Path, sets: dict[str, QuestionSet], seed: int) -> None:
    """Write the problems of each further test set, and where they come from, into the folder `target`.

    Raises:
        PipelineError: as in `download`; the message has the key of the set.
    """
    sources: dict[str, SetSource] = {}
    for name, settings in sets.items():
        rows, origin = _set(name, settings, seed)
        write_jsonl(target / f"{name}.jsonl", rows)
        sources[name] = {**origin, "rows": len(rows), "sha256": sha256(target / f"{name}.jsonl")}
    write_json(target / "source.json", sources)


def _set(name: str, settings: QuestionSet, seed: int) -> tuple[Problems, Origin]:
    if settings.hub:
        return _set_from_hub(name, settings.hub)
    if settings.path:
        return _set_from_file(name, Path(settings.path), settings)
    assert settings.generated is not None, "QuestionSet has exactly one origin"
    own_seed, count = settings.generated.seed, settings.generated.rows
    seed = seed if own_seed is None else own_seed
    stream = problems(settings.generated.problems, seed)
    return _listed(itertools.islice(stream, count), name, count), _generated_origin(settings.generated, seed)


def _set_from_hub(name: str, hub: HubSplit) -> tuple[Problems, Origin]:
    key = f"evaluate.sets.{name}"
    remedies = f"give a file as {key}.path, or {FILL_THE_CACHE}, or take {name} out of evaluate.sets"
    published = _load_dataset(hub, remedies)
    _require_columns(published, hub, [hub.split], f"{key}.hub")
    rows = published[hub.split]
    return _listed(_hub_rows(rows, hub, hub.split), name, len(rows)), _hub_origin(hub)


def _set_from_file(name: str, file: Path, columns: QuestionSet) -> tuple[Problems, Origin]:
    key = f"evaluate.sets.{name}"
    if not file.is_file():
        raise PipelineError(
            f"{key}.path = {file}: no such file; it must hold questions with their answers, each a number or a text "
            f"that ends in #### and a number, in the columns {key}.question_key and {key}.answer_key"
        )
    rows = _listed(parse_file(file, _reader(columns, key)), name)
    return rows, {"origin": file.name, "revision": None, "licence": LOCAL_LICENCE}


# The hub


def _load_dataset(hub: Hub, remedies: str) -> Any:
    """The data set at its pinned revision, a `datasets.DatasetDict`, from the hub or from its cache."""
    from datasets import load_dataset  # takes seconds to import, and only this source needs it

    try:
        return load_dataset(hub.dataset, hub.configuration, revision=hub.revision)
    except Exception as error:  # datasets, huggingface_hub and their HTTP clients share no base class
        reason = first_line(error)[:LONGEST_REASON]
        raise PipelineError(
            f"download: {hub.dataset} at revision {hub.revision} could not be loaded from the hub "
            f"({type(error).__name__}: {reason}).\nWhat to do: {remedies}."
        ) from error


def _require_columns(published: Any, hub: Hub, splits: Iterable[str], key: str) -> None:
    """Refuse a data set that lacks a split or a column, or that the cache gives at another commit than the pinned one.

    Without a network, `datasets` takes whatever revision its cache has.
    """
    for split in splits:
        if split not in published:
            raise PipelineError(
                f"{key}.dataset = {hub.dataset}: there is no split '{split}'; it has {', '.join(published)}"
            )
        columns = published[split].column_names
        for setting, column in (("question_key", hub.question_key), ("answer_key", hub.answer_key)):
            if column not in columns:
                raise PipelineError(f"{key}.{setting} = {column}: no such column; choose from {', '.join(columns)}")
        folders = {Path(file["filename"]).parent.name for file in published[split].cache_files}
        if COMMIT.fullmatch(hub.revision) and any(COMMIT.fullmatch(name) and name != hub.revision for name in folders):
            raise PipelineError(
                f"{key}.revision = {hub.revision}: the hub can't be reached, and the cache has {hub.dataset} at "
                f"{', '.join(sorted(folders))} instead; "
                "on a machine with a network, fill an empty cache with the pinned revision"
            )


def _hub_rows(published: Any, hub: Hub, split: str) -> Iterator[PublishedProblem]:
    for index, row in enumerate(published):
        try:
            yield _problem(row[hub.question_key], row[hub.answer_key])
        except ValueError as error:
            raise PipelineError(f"{hub.dataset}, split {split}, row {index}: {error}") from None


# Rows and origins


def _reader(columns: Local | QuestionSet, key: str) -> Callable[[dict[str, Any]], PublishedProblem]:
    """A function that makes a problem from a row of a file, with the columns that the section `key` names."""

    def read(row: dict[str, Any]) -> PublishedProblem:
        for setting in ("question_key", "answer_key"):
            column = getattr(columns, setting)
            if column not in row:
                columns_there = ", ".join(map(str, row))
                raise ValueError(
                    f"'{column}' is missing: the row has {columns_there}; {key}.{setting} names the column"
                )
        return _problem(row[columns.question_key], row[columns.answer_key])

    return read


def _problem(question: Any, answer: Any) -> PublishedProblem:
    """A problem; the answer may also be a number instead of a text."""
    is_number = isinstance(answer, int | float | Decimal) and not isinstance(answer, bool)
    row = {"question": question, "answer": str(answer) if is_number else answer}
    return {"question": text_field(row, "question"), "answer": text_field(row, "answer")}


def _hub_origin(hub: Hub) -> Origin:
    return {"origin": hub.dataset, "revision": hub.revision, "licence": hub.licence}


def _generated_origin(settings: Generated | GeneratedSet, seed: int) -> Origin:
    origin = "gsm8k_grpo.problems" + ("" if settings.problems == "simple" else f", {settings.problems}")
    return {"origin": origin, "revision": f"seed {seed}", "licence": "MIT"}


def _listed(rows: Iterable[PublishedProblem], name: str, total: int | None = None) -> Problems:
    """All rows, with a progress bar while they are read."""
    return list(ProgressBar(rows, desc=f"download {name}", unit="row", total=total))
