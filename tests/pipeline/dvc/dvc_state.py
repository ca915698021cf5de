"""What DVC, Snakemake and `make sync` did in a project, what they would do, and what is at work there."""

import json
import re
from pathlib import Path

import psutil
from dvc_project import done, run


def ran(output: str) -> set[str]:
    """The stages that DVC ran, without those that it skipped or restored."""
    return set(re.findall(r"^Running stage '(.+)':", output, re.MULTILINE))


def restored(output: str) -> set[str]:
    return set(re.findall(r"^Stage '(.+)' is cached - skipping run", output, re.MULTILINE))


def stale(folder: Path, *stages: str) -> set[str]:
    return set(json.loads(done(folder, "dvc", "status", "--json", *stages)))


def assert_snakemake_runs_nothing(folder: Path) -> None:
    assert "Nothing to be done" in done(folder, "snakemake", "--cores", "1", "report")


def rules_that_would_run(folder: Path, setting: str) -> set[str]:
    """The rules in Snakemake's plan of the report with a `--config`."""
    plan = done(folder, "snakemake", "-n", "report", "--config", setting)
    return set(re.findall(r"^rule (\w+):", plan, re.MULTILINE))


def refused(folder: Path, *options: str) -> str:
    """The error of `sync`, which must not have changed any file."""
    before = {path: path.lstat().st_mtime_ns for path in (folder / "results").rglob("*")}
    sync = run(folder, "gsm8k-grpo", "sync", *options)
    assert sync.returncode == 1
    assert {path: path.lstat().st_mtime_ns for path in (folder / "results").rglob("*")} == before
    return sync.stderr


def checkpoints(folder: Path) -> set[Path]:
    return set(folder.glob("checkpoints/*/checkpoint-*/manifest.json"))


def at_work(folder: Path) -> list[psutil.Process]:
    """The processes, except zombies, that have this working folder."""
    return [
        process
        for process in psutil.process_iter(["cwd", "status"])
        if process.info["cwd"] == str(folder) and process.info["status"] != psutil.STATUS_ZOMBIE
    ]
