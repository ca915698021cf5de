"""Files and folders are complete or absent, and errors in data name file and line."""

import errno
import hashlib
import json
from pathlib import Path

import pytest
from gsm8k_grpo.files import (
    PipelineError,
    first_line,
    parse_jsonl,
    read_json,
    read_jsonl,
    replaced_folder,
    sha256,
    text_field,
    write_json,
    write_jsonl,
    write_text,
)

ODD = "line\u2028paragraph\u2029next\x85tab\tbreak\nreturn\rfeed\x0cnull\x00 £ 七 😀"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_writing_creates_folders_and_leaves_no_partial_file(tmp_path):
    write_text(tmp_path / "a" / "b" / "note.txt", "seven\n")
    assert (tmp_path / "a" / "b" / "note.txt").read_bytes() == b"seven\n"
    assert names(tmp_path / "a" / "b") == ["note.txt"]


def test_writing_replaces_an_old_file_and_the_partial_file_of_a_killed_run(tmp_path):
    (tmp_path / "note.txt").write_text("old")
    (tmp_path / "note.txt.part").write_text("half of a longer text")
    write_text(tmp_path / "note.txt", "new")
    assert (tmp_path / "note.txt").read_text() == "new"
    assert names(tmp_path) == ["note.txt"]


def test_line_breaks_are_written_unchanged(tmp_path):
    write_text(tmp_path / "note.txt", "a\r\nb\nc")
    assert (tmp_path / "note.txt").read_bytes() == b"a\r\nb\nc"


def rows_that_break():
    yield {"row": 1}
    raise RuntimeError("the source broke")


@pytest.mark.parametrize(
    ("write", "value", "error"),
    [
        pytest.param(write_jsonl, rows_that_break(), RuntimeError, id="the rows stop midway"),
        pytest.param(write_jsonl, [{"row": 1}, {"row": float("nan")}], ValueError, id="a row has NaN"),
        pytest.param(write_json, {"value": float("inf")}, ValueError, id="a value is infinite"),
        pytest.param(write_json, {"value": object()}, TypeError, id="a value is not JSON"),
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


@pytest.fixture
def target(tmp_path) -> Path:
    """A folder with a file, next to which a killed process left a half-filled folder."""
    for folder, name in (("model", "old.txt"), ("model.part", "half.txt")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text("x")
    return tmp_path / "model"


def test_a_folder_is_replaced_once_it_is_filled(target):
    with replaced_folder(target) as part:
        assert names(part) == []
        (part / "new.txt").write_text("new")
        assert names(target) == ["old.txt"]
    assert names(target) == ["new.txt"]
    assert names(target.parent) == ["model"]


def test_a_replaced_folder_need_not_exist_nor_its_parents(tmp_path):
    with replaced_folder(tmp_path / "a" / "b") as part:
        (part / "new.txt").write_text("new")
    assert names(tmp_path / "a") == ["b"]
    assert names(tmp_path / "a" / "b") == ["new.txt"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_failure_while_a_folder_is_filled_leaves_the_old_folder_alone(target, error):
    def fill():
        with replaced_folder(target) as part:
            (part / "new.txt").write_text("new")
            raise error

    with pytest.raises(error):
        fill()
    assert names(target) == ["old.txt"]
    assert names(target.parent) == ["model"]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one"), "one"),
        (ValueError("\n  one \r\ntwo"), "one "),
        (ValueError(), "ValueError"),
        (RuntimeError(" \n"), "RuntimeError"),
    ],
)
def test_the_first_line_of_an_error_is_its_message_or_else_its_class(error, line):
    assert first_line(error) == line


def test_json_is_indented_and_keeps_unicode(tmp_path):
    write_json(tmp_path / "value.json", {"b": "七", "a": [1, 0.5, None]})
    assert (tmp_path / "value.json").read_text(encoding="utf-8") == (
        '{\n  "b": "七",\n  "a": [\n    1,\n    0.5,\n    null\n  ]\n}\n'
    )
    assert read_json(tmp_path / "value.json") == {"b": "七", "a": [1, 0.5, None]}


def test_jsonl_has_one_line_per_row_in_order(tmp_path):
    write_jsonl(tmp_path / "rows.jsonl", ({"n": n} for n in (3, 1, 2)))
    assert (tmp_path / "rows.jsonl").read_text() == '{"n": 3}\n{"n": 1}\n{"n": 2}\n'
    assert read_jsonl(tmp_path / "rows.jsonl") == [{"n": 3}, {"n": 1}, {"n": 2}]


def test_no_rows_are_written_as_an_empty_file(tmp_path):
    write_jsonl(tmp_path / "rows.jsonl", [])
    assert (tmp_path / "rows.jsonl").read_bytes() == b""
    assert read_jsonl(tmp_path / "rows.jsonl") == []


def test_unicode_line_separators_inside_a_text_do_not_split_its_row(tmp_path):
    rows = [{"text": ODD}, {"text": "second"}]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    assert read_jsonl(tmp_path / "rows.jsonl") == rows
    assert list(parse_jsonl(tmp_path / "rows.jsonl", dict)) == rows


def test_every_row_is_parsed_in_order(tmp_path):
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
def test_a_bad_line_is_an_error_with_file_line_and_reason(tmp_path, line, reason):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"n": 1}\n{"n": 2}\n' + line + b'\n{"n": 4}\n')
    parsed = parse_jsonl(path, lambda row: int(row["n"]))
    assert [next(parsed), next(parsed)] == [1, 2]
    with pytest.raises(PipelineError) as stopped:
        next(parsed)
    assert str(stopped.value) == f"{path}:3: {reason}"


@pytest.mark.parametrize("read", [read_json, read_jsonl, lambda path: list(parse_jsonl(path, dict))])
def test_a_file_that_no_stage_has_written_yet_is_named(tmp_path, read):
    with pytest.raises(PipelineError) as stopped:
        read(tmp_path / "missing.jsonl")
    assert str(stopped.value) == f"{tmp_path / 'missing.jsonl'}: no such file; run the stage that writes it first"


def test_text_field_returns_the_text_unchanged():
    text = f" {ODD} ".replace("\0", "")
    assert text_field({"question": text}, "question") == text


@pytest.mark.parametrize("row", [{}, {"q": None}, {"q": 7}, {"q": ["a"]}, {"q": ""}, {"q": " \n"}])
def test_text_field_refuses_other_values(row):
    with pytest.raises(ValueError, match=r"^'q' is missing or not a text$"):
        text_field(row, "q")


def test_text_field_refuses_a_nul_character():
    with pytest.raises(ValueError, match=r"^'q' holds a NUL character \(\\u0000\)$"):
        text_field({"q": "seven\0"}, "q")


def test_text_field_refuses_half_a_surrogate_pair():
    with pytest.raises(ValueError, match="surrogates not allowed"):
        text_field(json.loads('{"q": "smile \\ud83d"}'), "q")


def test_sha256_is_the_digest_of_the_bytes(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    assert sha256(tmp_path / "file") == hashlib.sha256(b"abc").hexdigest()
    assert sha256(tmp_path / "file").startswith("ba7816bf8f01cfea")


def test_an_error_shows_control_sequences_of_texts_from_outside_as_escapes():
    sequences = "\x1b]0;title\x07 \x1b[2J \x9b31m \x7f \u202e \ud83d\r"
    shown = r"\x1b]0;title\x07 \x1b[2J \x9b31m \x7f \u202e \ud83d\r"
    assert str(PipelineError(f"data.jsonl:7: {sequences}")) == f"data.jsonl:7: {shown}"
    assert first_line(ValueError(f"{sequences}\nmore")) == shown.removesuffix(r"\r")


def test_an_error_shows_other_characters_as_they_are():
    text = "first line\n\tindented, £ ü 七 排, 😀, \\x1b"
    assert str(PipelineError(text)) == text
