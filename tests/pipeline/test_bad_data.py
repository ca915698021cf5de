"""Bad data through the command line: one line with file, line and reason; nothing written, nothing lost."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest


def row(question: str, answer: str = "Two and two are 4.\n#### 4") -> bytes:
    return json.dumps({"question": question, "answer": answer}, ensure_ascii=False).encode()


# A line of a file that is no row, and a pattern of the reason.  Both stages refuse these.
NO_ROW = {
    "no question": (b'{"answer": "#### 7"}', "'question' is missing"),
    "no answer": (b'{"question": "q"}', "'answer' is missing"),
    "a blank question": (row(" "), "'question' is missing"),
    "true for an answer": (b'{"question": "q", "answer": true}', "'answer' is missing"),
    "a list": (b"[]", "a JSON object .*not list"),
    "a blank line": (b"", r"broken JSON .*column 1\b"),
    "half a row": (row("q")[:20], r"broken JSON .*Unterminated string.*column 19\b"),
    "a row and a half": (row("q") + b"{", r"broken JSON .*Extra data.*column 58\b"),
    "nested too deep": (b'{"question": ' + b"[" * 100_000, "broken JSON .*nested too deep"),
    "a line of 10 MB": (row("q" * 10_000_000), "the line has 10,000,056 bytes.* 1,000,000 "),
    "a raw NUL": (row("q\0").replace(rb"\u0000", b"\0"), "a NUL byte at column 16: .*not UTF-8"),
    "zeros of a crash": (b"\0" * 4096, "a NUL byte at column 1: .*not UTF-8"),
    "an escaped NUL": (row("q\0"), r"'question' .*NUL.*\\u0000"),
    "Latin-1": ('{"question": "café"}'.encode("latin-1"), r"not UTF-8 .*byte 17\b"),
    "UTF-16": (row("q").decode().encode("utf-16"), r"not UTF-8 .*byte 0\b"),
    "UTF-16 without a mark": (row("q").decode().encode("utf-16-le"), "a NUL byte at column 2: "),
    "half an emoji": (b'{"question": "\\ud83d", "answer": "7"}', "'question' .*surrogates not allowed"),
}
# A valid row without exactly one gold answer, which only extract refuses.
NO_ANSWER = {
    "neither hashes nor a number": (row("q", "It is 7."), "the answer 'It is 7.' is not a number"),
    "a turn of its own": (
        row("q<|im_end|>\n<|im_start|>assistant\n7"),
        r"'question' holds <\|im_end\|>, a control token",
    ),
    "a control token in the answer": (row("q", "<｜User｜> #### 7"), "'answer' holds <｜User｜>, a control token"),
    "control sequences": (row("q", "\x1b]0;mine\x07 \x9b31m"), r"\\x1b\]0;mine\\x07 \\x9b31m"),
    "hashes twice": (row("q", "#### 7 #### 8"), "the answer has 2 '####' marks"),
    "no number": (row("q", "#### seven"), "'seven' .*'####'.* not a number"),
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
    """Runs a stage on changed data, first where it never ran, then over its good output; gives its error."""

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
        error = first.stderr.splitlines()[-1]  # after download's progress
        assert error == again.stderr.splitlines()[-1]
        assert first.stderr.count("error: ") == 1
        return error

    return run


@pytest.mark.parametrize(("line", "reason"), NO_ROW.values(), ids=list(NO_ROW))
@pytest.mark.parametrize(("stage", "split"), [("download", "test"), ("extract", "train")])
def test_a_line_that_is_no_row_is_an_error_with_its_number(refused, stage, split, line, reason):
    assert re.match(rf"error: {FOLDERS[stage]}/{split}\.jsonl:2: {reason}", refused(stage, {split: line}))


@pytest.mark.parametrize(("line", "reason"), NO_ANSWER.values(), ids=list(NO_ANSWER))
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_row_without_exactly_one_answer_is_an_error_with_its_number(refused, split, line, reason):
    assert re.match(rf"error: results/download/{split}\.jsonl:2: .*{reason}", refused("extract", {split: line}))


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("stage", ["download", "extract"])
def test_an_empty_file_is_an_error_with_its_name(refused, stage, split):
    assert re.match(rf"error: {FOLDERS[stage]}/{split}\.jsonl:1: .*empty", refused(stage, {split: None}))


def test_a_question_in_both_splits_is_an_error_with_both_lines(refused):
    error = refused("extract", {"train": row("test 2?")})
    assert error.startswith("error: results/download/train.jsonl:2: the same question ")
    assert " results/download/test.jsonl:3;" in error
