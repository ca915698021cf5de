"""Folders and files that can't be written, read or replaced: the command names them in one line and loses nothing."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from project import COMMAND, ROOT
from small_run import unprivileged

DATA = [
    "download.generated.train_rows=40", "download.generated.test_rows=10", "extract.validation_rows=8",
    "train.prompts=null", "evaluate.sets={}",
]  # fmt: skip
OPTIONS = [word for setting in DATA for word in ("--set", setting)]
# How the message of each fault begins, after the path.
NO_PERMISSION = "no permission; "
FILE_IN_THE_WAY = "a file is where a folder must be; "
FOLDER_IN_THE_WAY = "a folder is where a file must be; "
DISK_FULL = "no space is left on the disk; "


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command to which file permissions apply even if root runs the tests."""
    return subprocess.run(unprivileged([*command]), cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def downloaded(cli, workdir) -> Path:
    """A working folder after the stage download."""
    assert cli("download", *OPTIONS).returncode == 0
    return workdir


@pytest.fixture
def change_mode() -> Callable[[Path, int], None]:
    """Changes the mode of a path until the test ends."""
    changed = []

    def change(path: Path, mode: int) -> None:
        changed.append((path, path.stat().st_mode))
        path.chmod(mode)

    yield change
    for path, mode in changed:
        path.chmod(mode)


# The path whose mode is changed, the mode, the stage that runs, and the path that the message must name.
CLOSED = {
    "working folder": (".", 0o555, "extract", "{folder}"),
    "results": ("results", 0o555, "extract", "results"),
    "stage's folder": ("results/download", 0o555, "download", "results/download/configuration.json"),
    "file to read": ("results/download/train.jsonl", 0o000, "extract", "results/download/train.jsonl"),
    "params.yaml": ("params.yaml", 0o000, "extract", "params.yaml"),
}


@pytest.mark.parametrize(("path", "mode", "stage", "named"), CLOSED.values(), ids=list(CLOSED))
def test_a_path_without_permission_is_named(downloaded, change_mode, path, mode, stage, named):
    before = content(downloaded / "results")
    change_mode(downloaded / path, mode)
    stopped = run(COMMAND, stage, *OPTIONS, cwd=downloaded)
    assert stopped.returncode == 1
    last = stopped.stderr.splitlines()[-1]
    assert last.startswith(f"error: {named.format(folder=downloaded)}: {NO_PERMISSION}")
    assert "Traceback" not in stopped.stderr
    (downloaded / path).chmod(0o755)
    assert content(downloaded / "results") == before


def assert_only_error(stopped: subprocess.CompletedProcess[str], start: str) -> None:
    """One line on stderr, which starts so, and no output."""
    assert (stopped.returncode, stopped.stdout) == (1, "")
    (line,) = stopped.stderr.splitlines()
    assert line.startswith(f"error: {start}")


@pytest.mark.parametrize(
    ("path", "stage"), [("results", "download"), ("results/extract", "extract"), ("results/train", "extract")]
)
def test_a_file_where_a_folder_should_be_is_named_and_kept(downloaded, path, stage):
    if path == "results":
        shutil.rmtree(downloaded / path)
    (downloaded / path).write_text("of another program")
    assert_only_error(run(COMMAND, stage, *OPTIONS, cwd=downloaded), f"{path}: {FILE_IN_THE_WAY}")
    assert (downloaded / path).read_text() == "of another program"


def test_a_folder_where_a_file_should_be_is_named_and_kept(downloaded):
    in_the_way = downloaded / "results" / "extract" / "test.jsonl"
    in_the_way.mkdir(parents=True)
    (in_the_way / "note.txt").write_text("of another program")
    stopped = run(COMMAND, "extract", *OPTIONS, cwd=downloaded)
    assert_only_error(stopped, f"results/extract/test.jsonl: {FOLDER_IN_THE_WAY}")
    assert (in_the_way / "note.txt").read_text() == "of another program"
    assert not list(downloaded.rglob("*.part"))


def test_a_full_disk_is_named_and_leaves_complete_files_alone(downloaded):
    """`results` is on a disk of 32 KiB, which holds what download wrote but not what extract writes."""
    script = (
        "cp -r results kept && mount -t tmpfs -o size=32k tmpfs results && cp -r kept/* results/ && "
        '"$@"; code=$?; diff -r kept/download results/download >&2 && ls -A results/extract; exit $code'
    )
    space = ["unshare", "--map-root-user", "--mount", "sh", "-c", script, "sh"]
    if subprocess.run([*space[:3], "true"], capture_output=True, check=False).returncode:
        pytest.skip("file systems can't be mounted in a namespace on this machine")
    stopped = subprocess.run(
        [*space, COMMAND, "extract", *OPTIONS], cwd=downloaded, capture_output=True, text=True, check=False
    )
    assert_only_error(stopped, f"results/extract/train.jsonl: {DISK_FULL}")


def test_other_errors_of_the_system_keep_their_traceback(downloaded):
    (downloaded / "params.yaml").unlink()
    (downloaded / "params.yaml").symlink_to("params.yaml")
    stopped = run(COMMAND, "extract", cwd=downloaded)
    assert stopped.returncode == 1
    assert "Traceback" in stopped.stderr
    assert "Too many levels of symbolic links" in stopped.stderr


@pytest.mark.parametrize(
    ("path", "fault"), [("results", FILE_IN_THE_WAY), ("results/extract", FILE_IN_THE_WAY), (".", NO_PERMISSION)]
)
def test_snakemake_reports_an_unusable_folder_in_the_same_words(tmp_path, change_mode, path, fault):
    for name in ("Snakefile", "params.yaml", "workflow", "profiles"):
        (tmp_path / name).symlink_to(ROOT / name)
    if path == ".":
        change_mode(tmp_path, 0o555)
    else:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text("of another program")
    stopped = run(sys.executable, "-m", "snakemake", "--cores", "1", "results/extract/test.jsonl", cwd=tmp_path)
    assert stopped.returncode == 1
    assert f"{tmp_path if path == '.' else path}: {fault}" in stopped.stderr
    assert "Traceback" not in stopped.stderr
