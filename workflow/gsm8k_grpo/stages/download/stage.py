"""Stage `download`: the problems as published, from the hub, from a local folder or from the generator.

Writes `results/download/{train,test}.jsonl` with `question` and `answer` per row, and `source.json` with
origin, revision, licence, rows and sha256 of each file.

The further test sets that `evaluate.sets` names stand in `results/download/sets/<name>.jsonl`, with a `source.json` of
their own: the same for each by its name.
"""

import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.config.sections import Generated, GeneratedSet, Hub, HubSplit, QuestionSet
from gsm8k_grpo.files import PipelineError, parse_jsonl, sha256, text_field, write_json, write_jsonl
from gsm8k_grpo.gsm8k.problems import problems
from gsm8k_grpo.runtime.progress import ProgressBar

SPLITS = ("train", "test")
FILL_THE_CACHE = "fill the cache where there is a network and set HF_HUB_OFFLINE=1 and HF_HOME=CACHE"
AS_THE_OWNER_SAYS = "as the owner of the folder says"
COMMIT = re.compile(r"[0-9a-f]{40}")
Row = dict[str, str]


def download(target: Path, params: Params) -> None:
    """Run the stage: write the rows of both splits and what is known of their source into `target`."""
    if params.source == "hub":
        rows, source = _from_hub(params.download.hub)
    elif params.source == "local":
        rows, source = _from_folder(Path(params.path))
    else:
        rows, source = _generated(params.download.generated, params.seed)
    for split in SPLITS:
        write_jsonl(target / f"{split}.jsonl", rows[split])
    files = {
        f"{split}.jsonl": {"rows": len(rows[split]), "sha256": sha256(target / f"{split}.jsonl")} for split in SPLITS
    }
    write_json(target / "source.json", {"source": params.source, **source, "files": files})


def _from_hub(hub: Hub) -> tuple[dict[str, list[Row]], dict[str, Any]]:
    published = _load(
        hub,
        "give a folder that holds train.jsonl and test.jsonl (--config source=local path=FOLDER), "
        f"or {FILL_THE_CACHE}, or use generated problems (--config source=generated)",
    )
    _check_published(published, hub, SPLITS, "download.hub")
    rows = {
        split: _progress(_hub_rows(published[split], hub, split, _published), split, len(published[split]))
        for split in SPLITS
    }
    return rows, _source_of(hub)


def _load(hub: Hub, remedies: str) -> Any:
    from datasets import load_dataset  # takes seconds to import, and only this source needs it

    try:
        return load_dataset(hub.dataset, hub.configuration, revision=hub.revision)
    except Exception as error:  # datasets, huggingface_hub and their HTTP clients share no base class
        reason = str(error).partition("\n")[0][:200]
        raise PipelineError(
            f"download: {hub.dataset} at revision {hub.revision} could not be had from the hub "
            f"({type(error).__name__}: {reason}).\nWhat to do: {remedies}."
        ) from error


def _source_of(hub: Hub) -> dict[str, Any]:
    return {"origin": hub.dataset, "revision": hub.revision, "licence": hub.licence}


def _check_published(published: Any, hub: Hub, splits: Iterable[str], key: str) -> None:
    """Splits and columns are there, and a cache that was read without the hub is of the pinned commit."""
    for split in splits:
        if split not in published:
            raise PipelineError(f"{key}.dataset = {hub.dataset}: no split '{split}' in {', '.join(published)}")
        columns = published[split].column_names
        for setting, column in (("question_key", hub.question_key), ("answer_key", hub.answer_key)):
            if column not in columns:
                raise PipelineError(f"{key}.{setting} = {column}: no such column; choose from {', '.join(columns)}")
        folders = {Path(file["filename"]).parent.name for file in published[split].cache_files}
        if COMMIT.fullmatch(hub.revision) and any(COMMIT.fullmatch(name) and name != hub.revision for name in folders):
            raise PipelineError(
                f"{key}.revision = {hub.revision}: without the hub, the cache gives {hub.dataset} at "
                f"{', '.join(sorted(folders))}; fill an empty cache with the pinned revision where there is a network"
            )


def _hub_rows(published: Any, hub: Hub, split: str, parse: Callable[[dict[str, Any]], Row]) -> Iterator[Row]:
    for index, row in enumerate(published):
        try:
            yield parse({"question": row[hub.question_key], "answer": row[hub.answer_key]})
        except ValueError as error:
            raise PipelineError(f"{hub.dataset}, split {split}, row {index}: {error}") from None


def _from_folder(folder: Path) -> tuple[dict[str, list[Row]], dict[str, Any]]:
    for split in SPLITS:
        if not (folder / f"{split}.jsonl").is_file():
            raise PipelineError(
                f"path = {folder}: there is no {split}.jsonl; the folder must hold train.jsonl and test.jsonl, "
                'each line {"question": ..., "answer": ... #### 72}'
            )
    rows = {split: _progress(parse_jsonl(folder / f"{split}.jsonl", _published), split) for split in SPLITS}
    return rows, {"origin": folder.name, "revision": None, "licence": AS_THE_OWNER_SAYS}


def _published(row: dict[str, Any]) -> Row:
    return {"question": text_field(row, "question"), "answer": text_field(row, "answer")}


def _generated(settings: Generated, seed: int) -> tuple[dict[str, list[Row]], dict[str, Any]]:
    stream = problems(settings.problems, seed)
    rows = {
        "train": _progress(itertools.islice(stream, settings.train_rows), "train", settings.train_rows),
        "test": _progress(itertools.islice(stream, settings.test_rows), "test", settings.test_rows),
    }
    return rows, _source_of_generated(settings, seed)


def _source_of_generated(settings: Generated | GeneratedSet, seed: int) -> dict[str, Any]:
    origin = "gsm8k_grpo.problems" + ("" if settings.problems == "simple" else f", {settings.problems}")
    return {"origin": origin, "revision": f"seed {seed}", "licence": "MIT"}


def download_sets(target: Path, sets: dict[str, QuestionSet], seed: int) -> None:
    """Write the further test sets and what is known of their sources into the folder `target`."""
    sources = {}
    for name, wanted in sets.items():
        rows, source = _set(name, wanted, seed)
        write_jsonl(target / f"{name}.jsonl", rows)
        sources[name] = source | {"rows": len(rows), "sha256": sha256(target / f"{name}.jsonl")}
    write_json(target / "source.json", sources)


def _set(name: str, wanted: QuestionSet, seed: int) -> tuple[list[Row], dict[str, Any]]:
    if wanted.hub:
        return _set_from_hub(name, wanted.hub)
    if wanted.path:
        if not Path(wanted.path).is_file():
            raise PipelineError(
                f"evaluate.sets.{name}.path = {wanted.path}: no such file; it must hold a line a question, "
                '{"question": ..., "answer": ...}, the answer a number or a text that ends in #### and a number'
            )
        rows = _progress(parse_jsonl(Path(wanted.path), _question), name)
        return rows, {"origin": Path(wanted.path).name, "revision": None, "licence": AS_THE_OWNER_SAYS}
    count, stream = wanted.generated.rows, problems(wanted.generated.problems, seed)
    return _progress(itertools.islice(stream, count), name, count), _source_of_generated(wanted.generated, seed)


def _set_from_hub(name: str, hub: HubSplit) -> tuple[list[Row], dict[str, Any]]:
    key = f"evaluate.sets.{name}"
    remedies = f"give a file as {key}.path, or {FILL_THE_CACHE}, or take {name} out of evaluate.sets"
    published = _load(hub, remedies)
    _check_published(published, hub, [hub.split], f"{key}.hub")
    split = published[hub.split]
    return _progress(_hub_rows(split, hub, hub.split, _question), name, len(split)), _source_of(hub)


def _question(row: dict[str, Any]) -> Row:
    """A row of a further set, whose answer may be a number."""
    answer = row.get("answer")
    given = isinstance(answer, int | float) and not isinstance(answer, bool)
    return _published(row | {"answer": json.dumps(answer)} if given else row)


def _progress(rows: Iterable[Row], split: str, total: int | None = None) -> list[Row]:
    return list(ProgressBar(rows, desc=f"download {split}", unit="row", total=total))
