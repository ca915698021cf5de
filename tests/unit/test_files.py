"""Files are whole or absent, and bad data is named by file and line."""

import errno
import hashlib
import json
from pathlib import Path

import pytest
from gsm8k_grpo.files import (
    PipelineError,
    parse_jsonl,
    read_json,
    read_jsonl,
    sha256,
    text_field,
    write_json,
    write_jsonl,
    write_text,
)

ODD = "line\u2028paragraph\u2029next\x85tab\tbreak\nreturn\rfeed\x0cnull\x00 £ 七 😀"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_writing_makes_the_folders_and_leaves_no_part_behind(tmp_path):
    write_text(tmp_path / "a" / "b" / "note.txt", "seven\n")
    assert (tmp_path / "a" / "b" / "note.txt").read_bytes() == b"seven\n"
    assert names(tmp_path / "a" / "b") == ["note.txt"]


def test_writing_replaces_an_old_file_and_a_part_that_a_killed_run_left(tmp_path):
    (tmp_path / "note.txt").write_text("old")
    (tmp_path / "note.txt.part").write_text("half of a longer text")
    write_text(tmp_path / "note.txt", "new")
    assert (tmp_path / "note.txt").read_text() == "new"
    assert names(tmp_path) == ["note.txt"]


def test_line_breaks_are_written_as_they_are(tmp_path):
    write_text(tmp_path / "note.txt", "a\r\nb\nc")
    assert (tmp_path / "note.txt").read_bytes() == b"a\r\nb\nc"


def rows_that_break():
    yield {"row": 1}
    raise RuntimeError("the source broke")


@pytest.mark.parametrize(
    ("write", "value", "error"),
    [
        pytest.param(write_jsonl, rows_that_break(), RuntimeError, id="the rows stop midway"),
        pytest.param(write_jsonl, [{"row": 1}, {"row": float("nan")}], ValueError, id="a row is NaN"),
        pytest.param(write_json, {"value": float("inf")}, ValueError, id="a value is infinite"),
        pytest.param(write_json, {"value": object()}, TypeError, id="a value is no JSON"),
        pytest.param(write_text, "half \ud83d of an emoji", UnicodeEncodeError, id="a text is not Unicode"),
    ],
)
def test_a_failure_while_writing_leaves_the_old_file_and_nothing_else(tmp_path, write, value, error):
    (tmp_path / "file").write_text("old")
    with pytest.raises(error):
        write(tmp_path / "file", value)
    assert (tmp_path / "file").read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_a_failure_before_the_rename_leaves_the_old_file(tmp_path, monkeypatch):
    def full_disk(self, target):
        raise OSError(errno.ENOSPC, "no space left on device")

    (tmp_path / "file").write_text("old")
    monkeypatch.setattr(Path, "replace", full_disk)
    with pytest.raises(OSError, match="no space"):
        write_text(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_json_is_indented_and_keeps_unicode(tmp_path):
    write_json(tmp_path / "value.json", {"b": "七", "a": [1, 0.5, None]})
    assert (tmp_path / "value.json").read_text(encoding="utf-8") == (
        '{\n  "b": "七",\n  "a": [\n    1,\n    0.5,\n    null\n  ]\n}\n'
    )
    assert read_json(tmp_path / "value.json") == {"b": "七", "a": [1, 0.5, None]}


def test_jsonl_has_a_line_a_row_in_their_order(tmp_path):
    write_jsonl(tmp_path / "rows.jsonl", ({"n": n} for n in (3, 1, 2)))
    assert (tmp_path / "rows.jsonl").read_text() == '{"n": 3}\n{"n": 1}\n{"n": 2}\n'
    assert read_jsonl(tmp_path / "rows.jsonl") == [{"n": 3}, {"n": 1}, {"n": 2}]


def test_no_rows_make_an_empty_file(tmp_path):
    write_jsonl(tmp_path / "rows.jsonl", [])
    assert (tmp_path / "rows.jsonl").read_bytes() == b""
    assert read_jsonl(tmp_path / "rows.jsonl") == []


def test_unicode_line_separators_inside_a_text_end_no_row(tmp_path):
    rows = [{"text": ODD}, {"text": "second"}]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    assert read_jsonl(tmp_path / "rows.jsonl") == rows
    assert list(parse_jsonl(tmp_path / "rows.jsonl", dict)) == rows


def test_parse_gives_what_parse_makes_of_each_row(tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(b'{"n": 1}\r\n{"n": 2}')
    assert list(parse_jsonl(tmp_path / "rows.jsonl", lambda row: row["n"] * 10)) == [10, 20]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"n": 1', "broken JSON (Expecting ',' delimiter at column 8)"),
        (b"", "broken JSON (Expecting value at column 1)"),
        (b"n = 1", "broken JSON (Expecting value at column 1)"),
        (b'{"n": "caf\xe9"}', "not UTF-8 (invalid continuation byte at byte 10)"),
        (b"\xff\xfe{\x00", "not UTF-8 (invalid start byte at byte 0)"),
        (b'{"n": "\x00"}', "a NUL byte at column 8: the file is damaged, or not UTF-8"),
        (b'{"n": ' + b"[" * 100_000, "broken JSON (nested too deep)"),
        (b"[1, 2]", "a JSON object is expected, not list"),
        (b'"n"', "a JSON object is expected, not str"),
        (b"null", "a JSON object is expected, not NoneType"),
        (b'{"n": "no number"}', "invalid literal for int() with base 10: 'no number'"),
    ],
)
def test_a_bad_line_stops_with_file_line_and_reason(tmp_path, line, reason):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"n": 1}\n{"n": 2}\n' + line + b'\n{"n": 4}\n')
    parsed = parse_jsonl(path, lambda row: int(row["n"]))
    assert [next(parsed), next(parsed)] == [1, 2]
    with pytest.raises(PipelineError) as stopped:
        next(parsed)
    assert str(stopped.value) == f"{path}:3: {reason}"


@pytest.mark.parametrize("read", [read_json, read_jsonl, lambda path: list(parse_jsonl(path, dict))])
def test_a_file_that_no_stage_wrote_yet_is_named(tmp_path, read):
    with pytest.raises(PipelineError) as stopped:
        read(tmp_path / "missing.jsonl")
    assert str(stopped.value) == f"{tmp_path / 'missing.jsonl'}: no such file; run the stage that writes it first"


def test_text_of_gives_the_text_untouched():
    text = f" {ODD} ".replace("\0", "")
    assert text_field({"question": text}, "question") == text


@pytest.mark.parametrize("row", [{}, {"q": None}, {"q": 7}, {"q": ["a"]}, {"q": ""}, {"q": " \n"}])
def test_text_of_refuses_what_is_no_text(row):
    with pytest.raises(ValueError, match=r"^'q' is missing or not a text$"):
        text_field(row, "q")


def test_text_of_refuses_a_nul_character():
    with pytest.raises(ValueError, match=r"^'q' holds a NUL character \(\\u0000\)$"):
        text_field({"q": "seven\0"}, "q")


def test_text_of_refuses_half_a_surrogate_pair():
    with pytest.raises(ValueError, match="surrogates not allowed"):
        text_field(json.loads('{"q": "smile \\ud83d"}'), "q")


def test_sha256_is_that_of_the_bytes(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    assert sha256(tmp_path / "file") == hashlib.sha256(b"abc").hexdigest()
    assert sha256(tmp_path / "file").startswith("ba7816bf8f01cfea")
