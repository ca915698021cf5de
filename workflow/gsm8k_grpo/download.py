"""Stage `download`: the problems as published, from the hub, from a local folder or from the generator.

Writes `results/download/{train,test}.jsonl` with `question` and `answer` per row, and `source.json` with
origin, revision, licence, rows and sha256 of each file.
"""

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from gsm8k_grpo.files import PipelineError, parse_jsonl, sha256, write_json, write_jsonl
from gsm8k_grpo.params import Hub, Params
from gsm8k_grpo.problems import problems

SPLITS = ("train", "test")
Row = dict[str, str]


def download(target: Path, params: Params) -> None:
    """Run the stage: write the rows of both splits and what is known of their source into `target`."""
    if params.source == "hub":
        rows, source = _from_hub(params.download.hub)
    elif params.source == "local":
        rows, source = _from_folder(Path(params.path))
    else:
        rows, source = _generated(
            params.download.generated.train_rows, params.download.generated.test_rows, params.seed
        )
    for split in SPLITS:
        write_jsonl(target / f"{split}.jsonl", rows[split])
    files = {
        f"{split}.jsonl": {"rows": len(rows[split]), "sha256": sha256(target / f"{split}.jsonl")} for split in SPLITS
    }
    write_json(target / "source.json", {"source": params.source, **source, "files": files})


def _from_hub(hub: Hub) -> tuple[dict[str, list[Row]], dict[str, Any]]:
    from datasets import load_dataset  # takes seconds to import, and only this source needs it

    try:
        published = load_dataset(hub.dataset, hub.configuration, revision=hub.revision)
    except Exception as error:  # datasets, huggingface_hub and their HTTP clients share no base class
        raise PipelineError(
            f"download: {hub.dataset} at revision {hub.revision} could not be had from the hub "
            f"({type(error).__name__}: {str(error).splitlines()[0][:200]}).\n"
            "What to do: give a folder that holds train.jsonl and test.jsonl (--config source=local path=FOLDER), "
            "or fill the cache where there is a network and set HF_HUB_OFFLINE=1 and HF_HOME=CACHE, "
            "or use generated problems (--config source=generated)."
        ) from error
    rows = {
        split: [
            {"question": row[hub.question_key], "answer": row[hub.answer_key]}
            for row in tqdm(published[split], desc=f"download {split}", unit="row")
        ]
        for split in SPLITS
    }
    return rows, {"origin": hub.dataset, "revision": hub.revision, "licence": hub.licence}


def _from_folder(folder: Path) -> tuple[dict[str, list[Row]], dict[str, Any]]:
    for split in SPLITS:
        if not (folder / f"{split}.jsonl").is_file():
            raise PipelineError(
                f"path = {folder}: there is no {split}.jsonl; the folder must hold train.jsonl and test.jsonl, "
                'each line {"question": ..., "answer": ... #### 72}'
            )
    rows = {split: _progress(parse_jsonl(folder / f"{split}.jsonl", _published), split) for split in SPLITS}
    return rows, {"origin": folder.name, "revision": None, "licence": "as the owner of the folder says"}


def _published(row: dict[str, Any]) -> Row:
    for key in ("question", "answer"):
        if not isinstance(row.get(key), str) or not row[key].strip():
            raise ValueError(f"'{key}' is missing or not a text")
    return {"question": row["question"], "answer": row["answer"]}


def _generated(train_rows: int, test_rows: int, seed: int) -> tuple[dict[str, list[Row]], dict[str, Any]]:
    stream = problems(seed)
    rows = {
        "train": _progress(itertools.islice(stream, train_rows), "train", train_rows),
        "test": _progress(itertools.islice(stream, test_rows), "test", test_rows),
    }
    return rows, {"origin": "gsm8k_grpo.problems", "revision": f"seed {seed}", "licence": "MIT"}


def _progress(rows: Iterable[Row], split: str, total: int | None = None) -> list[Row]:
    return list(tqdm(rows, desc=f"download {split}", unit="row", total=total))
