"""A place that can't be written, or is in the way: one clear line, and nothing lost."""

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
OPTIONS = [word for one in DATA for word in ("--set", one)]
AGAIN = ", then give the same command again"
NO_PERMISSION = f"no permission; change its owner or mode, or work in a folder of your own{AGAIN}"
NO_FOLDER = f"a file stands where a folder must be; move it away{AGAIN}"
NO_FILE = f"a folder stands where a file must be; move it away{AGAIN}"


def plain(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs a command that permissions bind, whoever runs the tests."""
    return subprocess.run(unprivileged([*command]), cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def downloaded(cli, workdir) -> Path:
    """A working folder where download has run."""
    assert cli("download", *OPTIONS).returncode == 0
    return workdir


@pytest.fixture
def closed() -> Callable[[Path, int], None]:
    """Changes the mode of a path, until the test ends."""
    changed = []

    def change(path: Path, mode: int) -> None:
        changed.append((path, path.stat().st_mode))
        path.chmod(mode)

    yield change
    for path, mode in changed:
        path.chmod(mode)


# The path whose mode is changed, the mode, the stage, and the path that is named.
CLOSED = {
    "working folder": (".", 0o555, "extract", "{folder}"),
    "results": ("results", 0o555, "extract", "results"),
    "stage's folder": ("results/download", 0o555, "download", "results/download/train.jsonl"),
    "file to read": ("results/download/train.jsonl", 0o000, "extract", "results/download/train.jsonl"),
    "params.yaml": ("params.yaml", 0o000, "extract", "params.yaml"),
}


@pytest.mark.parametrize(("path", "mode", "stage", "named"), CLOSED.values(), ids=list(CLOSED))
def test_a_place_without_permission_is_named(downloaded, closed, path, mode, stage, named):
    before = content(downloaded / "results")
    closed(downloaded / path, mode)
    done = plain(COMMAND, stage, *OPTIONS, cwd=downloaded)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"error: {named.format(folder=downloaded)}: {NO_PERMISSION}"
    assert "Traceback" not in done.stderr
    (downloaded / path).chmod(0o755)
    assert content(downloaded / "results") == before


@pytest.mark.parametrize(
    ("path", "stage", "line"),
    [
        ("results", "download", f"results: {NO_FOLDER}"),
        ("results/extract", "extract", f"results/extract: {NO_FOLDER}"),
        ("results/train", "extract", f"results/train: {NO_FOLDER}"),
    ],
)
def test_a_file_where_a_folder_should_be_is_named_and_kept(downloaded, path, stage, line):
    if path == "results":
        shutil.rmtree(downloaded / path)
    (downloaded / path).write_text("of another program")
    done = plain(COMMAND, stage, *OPTIONS, cwd=downloaded)
    assert (done.returncode, done.stderr) == (1, f"error: {line}\n")
    assert (downloaded / path).read_text() == "of another program"


def test_a_folder_where_a_file_should_be_is_named_and_kept(downloaded):
    in_the_way = downloaded / "results" / "extract" / "test.jsonl"
    in_the_way.mkdir(parents=True)
    (in_the_way / "note.txt").write_text("of another program")
    done = plain(COMMAND, "extract", *OPTIONS, cwd=downloaded)
    assert (done.returncode, done.stderr) == (1, f"error: results/extract/test.jsonl: {NO_FILE}\n")
    assert (in_the_way / "note.txt").read_text() == "of another program"
    assert not list(downloaded.rglob("*.part"))


def test_a_full_disk_is_named_and_leaves_the_whole_files_alone(downloaded):
    """A disk of 32 KiB under results, which holds what download wrote but not what extract writes."""
    script = (
        "cp -r results kept && mount -t tmpfs -o size=32k tmpfs results && cp -r kept/* results/ && "
        '"$@"; code=$?; diff -r kept/download results/download >&2 && ls -A results/extract; exit $code'
    )
    space = ["unshare", "--map-root-user", "--mount", "sh", "-c", script, "sh"]
    if subprocess.run([*space[:3], "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets no one mount a file system of their own")
    done = subprocess.run(
        [*space, COMMAND, "extract", *OPTIONS], cwd=downloaded, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: results/extract/train.jsonl: no space is left on the disk; make room{AGAIN}\n"


def test_other_errors_of_the_system_keep_their_traceback(downloaded):
    (downloaded / "params.yaml").unlink()
    (downloaded / "params.yaml").symlink_to("params.yaml")
    done = plain(COMMAND, "extract", cwd=downloaded)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "Too many levels of symbolic links" in done.stderr


@pytest.mark.parametrize(
    ("path", "reason"), [("results", NO_FOLDER), ("results/extract", NO_FOLDER), (".", NO_PERMISSION)]
)
def test_the_workflow_says_the_same(tmp_path, closed, path, reason):
    for name in ("Snakefile", "params.yaml", "workflow", "profiles"):
        (tmp_path / name).symlink_to(ROOT / name)
    if path == ".":
        closed(tmp_path, 0o555)
    else:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text("of another program")
    done = plain(sys.executable, "-m", "snakemake", "--cores", "1", "results/extract/test.jsonl", cwd=tmp_path)
    assert done.returncode == 1
    assert f"{tmp_path if path == '.' else path}: {reason}\n" in done.stderr
    assert "Traceback" not in done.stderr
