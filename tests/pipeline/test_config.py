"""`snakemake --config`: what is typed on the command line is what the stages get."""

import subprocess
from pathlib import Path

import pytest
from gsm8k_grpo.config import layers
from project import ROOT
from small_run import snakemake, workflow

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
