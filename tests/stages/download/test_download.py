"""The stage download: generated problems, a local folder, the hub, and an unreachable hub."""

import csv
import hashlib
import itertools
import json
import re
from http.server import BaseHTTPRequestHandler
from urllib.parse import urlsplit

import datasets
import pyarrow
import pytest
from gsm8k_grpo.config.sections import Local
from gsm8k_grpo.files import PipelineError, read_json, read_jsonl, sha256
from gsm8k_grpo.gsm8k.problems import problems
from gsm8k_grpo.stages.download.stage import download
from project import serving
from pyarrow import parquet

TRAIN = [
    {"question": "Two and two?\u2028Say it.", "answer": "2+2=<<2+2=4>>4\n#### 4"},
    {"question": "Wie viel sind 3 Äpfel?", "answer": "#### 3"},
]
TEST = [{"question": "Five?", "answer": "#### 1,005"}]
REVISION, OTHER = "a1" * 20, "b2" * 20


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def files(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


# generated


def test_as_many_problems_are_generated_as_the_configuration_says(small, tmp_path):
    download(tmp_path, small)
    train, test = (read_jsonl(tmp_path / f"{split}.jsonl") for split in ("train", "test"))
    assert (len(train), len(test)) == (40, 10)
    assert len({row["question"] for row in train + test}) == 50


def test_a_seed_fixes_every_byte(small, tmp_path):
    for folder, seed in (("first", 1), ("again", 1), ("other", 2)):
        download(tmp_path / folder, small.model_copy(update={"seed": seed}))
    for name in ("train.jsonl", "test.jsonl", "source.json"):
        first, again, other = ((tmp_path / folder / name).read_bytes() for folder in ("first", "again", "other"))
        assert first == again
        assert first != other


def test_the_source_of_generated_problems_is_recorded(small, tmp_path):
    download(tmp_path, small)
    assert read_json(tmp_path / "source.json") == {
        "source": "generated",
        "origin": "gsm8k_grpo.problems",
        "revision": "seed 7",
        "licence": "MIT",
        "files": {
            "train.jsonl": {"rows": 40, "sha256": sha256(tmp_path / "train.jsonl")},
            "test.jsonl": {"rows": 10, "sha256": sha256(tmp_path / "test.jsonl")},
        },
    }


def test_the_configured_set_of_problems_is_generated(small, tmp_path):
    generated = small.download.generated.model_copy(update={"problems": "rich"})
    download(
        tmp_path, small.model_copy(update={"download": small.download.model_copy(update={"generated": generated})})
    )
    rows = read_jsonl(tmp_path / "train.jsonl") + read_jsonl(tmp_path / "test.jsonl")
    assert rows == list(itertools.islice(problems("rich", 7), 50))
    assert read_json(tmp_path / "source.json")["origin"] == "gsm8k_grpo.problems, rich"


# local


@pytest.fixture
def local(tmp_path, small):
    """A folder of two files, and the configuration that names it."""
    folder = tmp_path / "own data"
    folder.mkdir()
    (folder / "train.jsonl").write_bytes(lines([row | {"topic": "sums"} for row in TRAIN]))
    (folder / "test.jsonl").write_bytes(lines(TEST))
    return folder, small.model_copy(update={"source": "local", "path": str(folder)})


def test_local_rows_are_copied_without_further_columns(local, tmp_path):
    download(tmp_path / "out", local[1])
    assert read_jsonl(tmp_path / "out" / "train.jsonl") == TRAIN
    assert read_jsonl(tmp_path / "out" / "test.jsonl") == TEST


def test_the_source_of_a_local_folder_has_rows_and_digests_of_the_files_written(local, tmp_path):
    download(tmp_path / "out", local[1])
    source = read_json(tmp_path / "out" / "source.json")
    assert (source["source"], source["origin"], source["revision"]) == ("local", "own data", None)
    for name, rows in (("train.jsonl", 2), ("test.jsonl", 1)):
        digest = hashlib.sha256((tmp_path / "out" / name).read_bytes()).hexdigest()
        assert source["files"][name] == {"rows": rows, "sha256": digest}


@pytest.mark.parametrize("missing", ["train.jsonl", "test.jsonl"])
def test_a_local_folder_without_a_file_is_explained(local, tmp_path, missing):
    folder, settings = local
    (folder / missing).unlink()
    with pytest.raises(PipelineError, match=rf"^path = .*own data: .*no {missing}.*train\.jsonl and test\.jsonl"):
        download(tmp_path / "out", settings)
    assert files(tmp_path / "out") == []


GERMAN = [{"frage": 'Zwei\nund "zwei", Äpfel?', "loesung": "#### 4"}, {"frage": "Drei?", "loesung": "007"}]
AS_READ = [{"question": row["frage"], "answer": row["loesung"]} for row in GERMAN]


def write_csv(path, rows, encoding="utf-8"):
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def write_parquet(path, rows):
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)


@pytest.fixture
def read(small, tmp_path):
    """Reads a folder of files with other column names; gives both splits."""
    keys = Local(question_key="frage", answer_key="loesung")
    named = small.download.model_copy(update={"local": keys})

    def read(folder=tmp_path):
        settings = small.model_copy(update={"source": "local", "path": str(folder), "download": named})
        download(tmp_path / "out", settings)
        return [read_jsonl(tmp_path / "out" / f"{split}.jsonl") for split in ("train", "test")]

    return read


def test_csv_and_parquet_files_are_read_with_other_column_names(read, tmp_path):
    write_csv(tmp_path / "train.csv", GERMAN)
    write_parquet(tmp_path / "test.parquet", GERMAN)
    assert read() == [AS_READ, AS_READ]


def test_a_byte_order_mark_is_no_part_of_the_first_row(read, tmp_path):
    write_csv(tmp_path / "train.csv", GERMAN, "utf-8-sig")
    (tmp_path / "test.jsonl").write_bytes(b"\xef\xbb\xbf" + lines(GERMAN))
    assert read() == [AS_READ, AS_READ]


def test_a_number_is_an_answer_in_every_kind_of_file(read, tmp_path):
    numbers = [{"frage": "Wie viel?", "loesung": 72}, {"frage": "Und?", "loesung": 0.5}]
    write_parquet(tmp_path / "train.parquet", [row | {"loesung": float(row["loesung"])} for row in numbers])
    (tmp_path / "test.jsonl").write_bytes(lines(numbers))
    train, test = read()
    assert [row["answer"] for row in train] == ["72.0", "0.5"]
    assert [row["answer"] for row in test] == ["72", "0.5"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"frage,loesung\n", "1: the file has no rows"),
        (b"", "1: the file has no rows"),
        (b"frage,antwort\neins?,1\n", "2: 'loesung' is missing: the row has frage, antwort; download.local.answer_key"),
        (b"frage,loesung\neins?,1\nzwei?\n", "3: 'answer' is missing"),
        (b"frage,loesung\neins?,1,2\n", "2: more fields than the 2 columns"),
        (b'frage,loesung\n"eins"?,1\n', "2: broken CSV"),
        ("frage,loesung\neins?,1\nzw\xf6lf?,12\n".encode("latin-1"), "3: not UTF-8"),
    ],
)
def test_a_damaged_csv_file_is_an_error_with_its_line(read, tmp_path, content, reason):
    write_parquet(tmp_path / "test.parquet", GERMAN)
    (tmp_path / "train.csv").write_bytes(content)
    with pytest.raises(PipelineError, match=rf"^{tmp_path}/train\.csv:{reason}"):
        read()


def test_a_damaged_parquet_file_is_an_error_with_its_row(read, tmp_path):
    write_csv(tmp_path / "test.csv", GERMAN)
    write_parquet(tmp_path / "train.parquet", [*GERMAN, {"frage": None, "loesung": "4"}])
    with pytest.raises(PipelineError, match=rf"^{tmp_path}/train\.parquet: row 3: 'question' is missing"):
        read()
    (tmp_path / "train.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(PipelineError, match=rf"^{tmp_path}/train\.parquet: not a Parquet file"):
        read()


def test_two_files_for_a_split_are_refused(read, tmp_path):
    write_csv(tmp_path / "train.csv", GERMAN)
    write_parquet(tmp_path / "train.parquet", GERMAN)
    with pytest.raises(PipelineError, match=r"there is train\.csv and train\.parquet; .* one file each"):
        read()


def test_by_hand_a_missing_folder_is_explained_without_a_traceback(cli, workdir):
    done = cli("download", "--set", "source=local", "--set", "path=nowhere")
    assert done.returncode == 1
    assert re.match(r"error: path = nowhere: .*no train\.jsonl", done.stderr)
    assert "Traceback" not in done.stderr
    assert not (workdir / "results").exists()


# hub: the real client, and a server with one data set in place of the hub

PUBLISHED = {
    "README.md": b"---\nconfigs:\n- config_name: main\n  data_files:\n  - {split: train, path: main/train.jsonl}\n"
    b"  - {split: test, path: main/test.jsonl}\n---\n",
    "main/train.jsonl": lines(TRAIN),
    "main/test.jsonl": lines(TEST),
}


class Hub(BaseHTTPRequestHandler):
    """The calls of the hub's API that loading the data set `tests/sums` makes."""

    def do_GET(self):
        path = urlsplit(self.path).path
        if path.startswith(f"/datasets/tests/sums/resolve/{REVISION}/"):
            self._file(path.partition(f"{REVISION}/")[2])
        elif path.startswith(f"/api/datasets/tests/sums/tree/{REVISION}/"):
            folder = path.partition(f"{REVISION}/")[2]
            names = [name for name in PUBLISHED if name.startswith(f"{folder}/")]
            self._json([{"type": "file", "path": n, "size": len(PUBLISHED[n]), "oid": "0" * 40} for n in names])
        elif path == f"/api/datasets/tests/sums/revision/{REVISION}":
            self._json({"id": "tests/sums", "sha": REVISION, "siblings": [{"rfilename": name} for name in PUBLISHED]})
        else:
            self._answer(404, b"")

    def do_HEAD(self):
        self.do_GET()

    def _file(self, name):
        if name not in PUBLISHED:
            return self._answer(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": REVISION})
        etag = hashlib.sha256(PUBLISHED[name]).hexdigest()
        return self._answer(200, PUBLISHED[name], {"X-Repo-Commit": REVISION, "ETag": f'"{etag}"'})

    def _json(self, value):
        self._answer(200, json.dumps(value).encode())

    def _answer(self, status, body, headers={}):
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def hub():
    with serving(Hub) as address:
        yield address


def from_hub(revision=REVISION, dataset="tests/sums", **keys):
    settings = {"source": "hub", "download.hub.dataset": dataset, "download.hub.revision": revision} | keys
    return [
        "download",
        "--part",
        "splits",
        *(part for key, value in settings.items() for part in ("--set", f"{key}={value}")),
    ]


def test_a_cache_filled_from_the_hub_gives_the_pinned_revision_offline(cli, workdir, tmp_path, hub):
    home, written = str(tmp_path / "cache"), workdir / "results" / "download"

    online = cli(*from_hub(), HF_HUB_OFFLINE="0", HF_ENDPOINT=hub, HF_HOME=home)
    assert online.returncode == 0, online.stderr
    assert read_jsonl(written / "train.jsonl") == TRAIN
    assert read_jsonl(written / "test.jsonl") == TEST
    source = read_json(written / "source.json")
    assert (source["origin"], source["revision"], source["licence"]) == ("tests/sums", REVISION, "MIT")

    before = {path.name: path.read_bytes() for path in written.iterdir()}
    for path in written.iterdir():
        path.unlink()
    offline = cli(*from_hub(), HF_HUB_OFFLINE="1", HF_HOME=home)
    assert offline.returncode == 0, offline.stderr
    assert {path.name: path.read_bytes() for path in written.iterdir()} == before

    other = cli(*from_hub(revision=OTHER), HF_HUB_OFFLINE="1", HF_HOME=home)
    assert other.returncode == 1
    assert re.search(rf"error: download\.hub\.revision = {OTHER}: .*tests/sums at {REVISION}", other.stderr)
    assert {path.name: path.read_bytes() for path in written.iterdir()} == before


def test_an_unreachable_hub_is_an_error_with_remedies_that_writes_nothing(cli, workdir, tmp_path):
    (tmp_path / "cache").mkdir()
    done = cli(*from_hub(), HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "cache"))
    assert done.returncode == 1
    assert re.search(rf"error: download: tests/sums at revision {REVISION} .*\(\w+: ", done.stderr)
    for remedy in ("--config source=local path=FOLDER", "HF_HUB_OFFLINE=1 and HF_HOME=CACHE", "source=generated"):
        assert remedy in done.stderr
    assert "Traceback" not in done.stderr
    assert not (workdir / "results").exists()


@pytest.fixture
def published(tmp_path, small, monkeypatch):
    """A folder that load_dataset reads as a data set, and a function that runs the stage on it."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "published"
    folder.mkdir()
    (folder / "train.jsonl").write_bytes(lines([row | {"question_zh-cn": "七"} for row in TRAIN]))
    (folder / "test.jsonl").write_bytes(lines([row | {"question_zh-cn": "八"} for row in TEST]))

    def run(**keys):
        hub = small.download.hub.model_copy(update={"dataset": str(folder), "configuration": None} | keys)
        changes = {"source": "hub", "download": small.download.model_copy(update={"hub": hub})}
        download(tmp_path / "out", small.model_copy(update=changes))
        return read_jsonl(tmp_path / "out" / "train.jsonl")

    return folder, run


def test_other_columns_can_be_named(published):
    assert published[1](question_key="question_zh-cn") == [{"question": "七", "answer": row["answer"]} for row in TRAIN]


def test_an_unknown_column_is_an_error_that_lists_the_columns(published, tmp_path):
    with pytest.raises(PipelineError) as stopped:
        published[1](answer_key="solution")
    assert str(stopped.value).startswith("download.hub.answer_key = solution: ")
    assert str(stopped.value).endswith("choose from question, answer, question_zh-cn")
    assert files(tmp_path / "out") == []


def test_a_data_set_without_a_test_split_is_refused(published, tmp_path):
    (published[0] / "test.jsonl").unlink()
    with pytest.raises(PipelineError, match=r"^download\.hub\.dataset = .*: .*no split 'test'; .* train$"):
        published[1]()
    assert files(tmp_path / "out") == []


def test_code_next_to_published_data_is_not_run(published, tmp_path):
    marker = tmp_path / "marker"
    (published[0] / "published.py").write_text(f"from pathlib import Path\nPath({str(marker)!r}).touch()\n")
    with pytest.raises(PipelineError, match=r"\(RuntimeError: Dataset scripts are no longer supported"):
        published[1]()
    assert not marker.exists()
    assert files(tmp_path / "out") == []


def test_a_published_row_without_an_answer_is_named(published, tmp_path):
    (published[0] / "train.jsonl").write_bytes(lines([*TRAIN, {"question": "q", "answer": None}]))
    (published[0] / "test.jsonl").write_bytes(lines(TEST))
    with pytest.raises(PipelineError, match=r", split train, row 2: 'answer' is missing or not a text$"):
        published[1]()
    assert files(tmp_path / "out") == []


def test_an_error_of_the_hub_without_a_message_is_explained_too(published, monkeypatch):
    def time_out(*arguments, **options):
        raise TimeoutError

    monkeypatch.setattr("datasets.load_dataset", time_out)
    with pytest.raises(PipelineError, match=r"from the hub \(TimeoutError"):
        published[1]()
