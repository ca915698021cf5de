"""Bad data through the command line: one line with file, line and reason; nothing written, nothing lost."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

LIMIT = "bytes, more than the 1,000,000 that a row may have"
HASHES = "'####' marks, exactly one is expected"


def row(question: str, answer: str = "Two and two are 4.\n#### 4") -> bytes:
    return json.dumps({"question": question, "answer": answer}, ensure_ascii=False).encode()


# What stands in a file instead of a row, and what is said of it.  Both stages refuse these.
NO_ROW = {
    "no question": (b'{"answer": "#### 7"}', "'question' is missing or not a text"),
    "no answer": (b'{"question": "q"}', "'answer' is missing or not a text"),
    "a blank question": (row(" "), "'question' is missing or not a text"),
    "a number for an answer": (b'{"question": "q", "answer": 7}', "'answer' is missing or not a text"),
    "a list": (b"[]", "a JSON object is expected, not list"),
    "a blank line": (b"", "broken JSON (Expecting value at column 1)"),
    "half a row": (row("q")[:20], "broken JSON (Unterminated string starting at at column 19)"),
    "a row and a half": (row("q") + b"{", "broken JSON (Extra data at column 58)"),
    "nested too deep": (b'{"question": ' + b"[" * 100_000, "broken JSON (nested too deep)"),
    "a line of 10 MB": (row("q" * 10_000_000), f"the line has 10,000,056 {LIMIT}"),
    "a raw NUL": (row("q\0").replace(rb"\u0000", b"\0"), "a NUL byte at column 16: the file is damaged, or not UTF-8"),
    "zeros of a crash": (b"\0" * 4096, "a NUL byte at column 1: the file is damaged, or not UTF-8"),
    "an escaped NUL": (row("q\0"), r"'question' holds a NUL character (\u0000)"),
    "Latin-1": ('{"question": "café"}'.encode("latin-1"), "not UTF-8 (invalid continuation byte at byte 17)"),
    "UTF-16": (row("q").decode().encode("utf-16"), "not UTF-8 (invalid start byte at byte 0)"),
    "UTF-16 without a mark": (row("q").decode().encode("utf-16-le"), "a NUL byte at column 2: the file is damaged"),
    "half an emoji": (b'{"question": "\\ud83d"}', "'question' holds half a character (surrogates not allowed)"),
}
# A row as such, but without the one answer that extract looks for.
NO_ANSWER = {
    "no hashes": (row("q", "7"), f"the answer has 0 {HASHES}"),
    "hashes twice": (row("q", "#### 7 #### 8"), f"the answer has 2 {HASHES}"),
    "no number": (row("q", "#### seven"), "'seven' behind '####' is not a number"),
}


def write(folder: Path, changed: dict[str, bytes | None] = {}) -> None:
    """A data folder of 20 + 3 rows; `changed` replaces line 2 of a file by its name, None empties the file."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, count in (("train", 20), ("test", 3)):
        lines = [row(f"{name} {number}?") for number in range(count)]
        if name in changed:
            lines = [] if changed[name] is None else [lines[0], changed[name], *lines[2:]]
        (folder / f"{name}.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))


LOCAL = ["--set", "source=local", "--set", "path=data", "--set", "extract.validation_rows=5"]
FOLDERS = {"download": "data", "extract": "results/download"}
Refused = Callable[[str, dict[str, bytes | None]], str]


@pytest.fixture
def refused(cli, workdir) -> Refused:
    """Runs a stage on changed data, first where it never ran, then over its good output; gives what it says."""

    def run(stage: str, changed: dict[str, bytes | None]) -> str:
        written = workdir / "results" / stage
        write(workdir / FOLDERS[stage], changed)
        first = cli(stage, *LOCAL)
        assert not written.exists()

        written.mkdir(parents=True)
        good = {f"{name}.jsonl": name.encode() for name in ("train", "test", "validation")}
        for name, text in good.items():
            (written / name).write_bytes(text)
        again = cli(stage, *LOCAL)
        assert {path.name: path.read_bytes() for path in written.iterdir()} == good

        assert (first.returncode, again.returncode) == (1, 1)
        assert "Traceback" not in first.stderr + again.stderr
        said = first.stderr.splitlines()[-1]  # after download's progress
        assert said == again.stderr.splitlines()[-1]
        assert first.stderr.count("error: ") == 1
        return said

    return run


@pytest.mark.parametrize(("line", "reason"), NO_ROW.values(), ids=list(NO_ROW))
@pytest.mark.parametrize(("stage", "split"), [("download", "test"), ("extract", "train")])
def test_a_line_that_is_no_row_is_named(refused, stage, split, line, reason):
    assert refused(stage, {split: line}).startswith(f"error: {FOLDERS[stage]}/{split}.jsonl:2: {reason}")


@pytest.mark.parametrize(("line", "reason"), NO_ANSWER.values(), ids=list(NO_ANSWER))
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_row_without_the_one_answer_is_named(refused, split, line, reason):
    assert refused("extract", {split: line}) == f"error: results/download/{split}.jsonl:2: {reason}"


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("stage", ["download", "extract"])
def test_an_empty_file_is_named(refused, stage, split):
    assert refused(stage, {split: None}) == f"error: {FOLDERS[stage]}/{split}.jsonl:1: the file is empty"


def test_a_question_in_both_splits_is_named_with_both_lines(refused):
    assert refused("extract", {"train": row("test 2?")}) == (
        "error: results/download/train.jsonl:2: the same question stands in results/download/test.jsonl:3; "
        "take it out of one of the two"
    )
