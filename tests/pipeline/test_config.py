"""`snakemake --config`: what is typed on the command line is what the stages get."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from gsm8k_grpo.config import layers
from project import ROOT
from small_run import snakemake, unprivileged, workflow

CONFIGURED = "results/configure/params.yaml"
PROBES = ["What is 50 % # of 10", "*3 apples?", "'3' or \"4\"?", "042"]


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A project in a folder whose name needs quoting in many places."""
    return workflow(tmp_path_factory.mktemp("project") / "it's a ü & b?c")


def test_texts_arrive_unchanged_and_numbers_as_numbers(project):
    quoted = ", ".join('"' + probe.replace('"', '\\"') + '"' for probe in PROBES)
    config = [
        f'evaluate={{"probes": [{quoted}], "samples": 3}}',
        "seed=042",
        "path=007",
        'tracking={"experiment": "1e5"}',
    ]
    process = snakemake(project, CONFIGURED, "--config", *config)
    said = process.communicate()[0]
    assert process.returncode == 0, said
    written = layers.read(project / CONFIGURED)
    assert written["evaluate"]["probes"] == PROBES
    assert (written["evaluate"]["samples"], written["seed"]) == (3, 42)
    assert (written["path"], written["tracking"]["experiment"]) == ("007", "1e5")


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ("seed=1:30", 'seed = "1:30": must be a whole number'),
        ('evaluate={"probes": [*3 apples?]}', "the value is not valid YAML: "),
    ],
)
def test_anything_else_is_refused_in_one_line(project, config, line):
    process = snakemake(project, "-n", CONFIGURED, "--config", config)
    said = process.communicate()[0]
    assert process.returncode == 1
    assert line in said
    assert "Traceback" not in said


def test_snakemake_runs_where_the_home_can_not_be_written(project, tmp_path):
    home = tmp_path / "home"
    home.mkdir(mode=0o555)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        unprivileged(["snakemake", "--cores", "1", "--force", CONFIGURED]),
        cwd=project, env=os.environ | {"PATH": path, "HOME": str(home)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(home.iterdir()) == []


def test_results_of_the_future_are_refused_before_any_job(project):
    future = project / CONFIGURED
    future.parent.mkdir(parents=True, exist_ok=True)
    future.touch()
    os.utime(future, (4102444800, 4102444800))
    process = snakemake(project, "-n", CONFIGURED)
    said = process.communicate()[0]
    future.unlink()
    assert process.returncode == 1
    assert "results/configure/params.yaml: it was last changed in the future" in said
    assert "Traceback" not in said


def test_the_probe_is_a_file_of_the_workflow_where_it_is_switched_on(project):
    probe = "results/evaluate/base/prompts/continuation.jsonl"
    asked = snakemake(project, "-n", probe, "--config", 'evaluate={"contamination": true}')
    assert "jobs" in asked.communicate()[0]
    assert asked.returncode == 0
    off = snakemake(project, "-n", probe)
    assert "MissingRuleException" in off.communicate()[0]
    assert off.returncode != 0


def test_a_checkout_has_the_same_bytes_where_git_converts_line_breaks(tmp_path):
    """dvc.lock has the digests of the sources."""
    converting = ["git", "-c", "core.autocrlf=true", "checkout-index", "--all", f"--prefix={tmp_path}/"]
    subprocess.run(converting, cwd=ROOT, check=True)
    assert (tmp_path / "Snakefile").read_bytes() == (ROOT / "Snakefile").read_bytes()
    texts = [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".png"]
    assert [path for path in texts if b"\r\n" in path.read_bytes()] == []
