"""`make report RECIPE=NAME`: what it says of the machine before it installs anything, and the commands that it runs.

The machines are folders of programs, which are the whole PATH: nvidia-smi is a script that prints what the driver of
such a machine prints.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from gsm8k_grpo.config.params import load
from gsm8k_grpo.config.recipes import BASES, recipes
from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.models import gpu
from project import ROOT

sys.path.insert(0, str(ROOT / "envs"))
import run_recipe  # no part of the package, because it runs before the package is installed

LARGE = "NVIDIA H100 80GB HBM3, 580.95.05, 81559"
T4 = "Tesla T4, 580.95.05, 15360"


def script(path: Path, *lines: str) -> None:
    path.unlink(missing_ok=True)  # it may be a link to the real program, which must stay as it is
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)


class Machine:
    """A copy of the files that the script reads, and a PATH of its own."""

    def __init__(self, folder: Path):
        self.root, self.bin = folder / "copy", folder / "bin"
        shutil.copytree(ROOT / "envs", self.root / "envs")
        shutil.copytree(ROOT / "workflow/recipes", self.root / "workflow/recipes")
        for file in ("params.yaml", "Makefile", "pyproject.toml"):
            shutil.copy(ROOT / file, self.root)
        self.bin.mkdir()
        (self.bin / "python3").symlink_to(sys.executable)
        for tool in ("make", "sh"):
            (self.bin / tool).symlink_to(shutil.which(tool))
        script(self.bin / "gcc")

    def has_gpus(self, *rows: str) -> None:
        script(self.bin / "nvidia-smi", *(f"echo '{row}'" for row in rows))

    def has_python(self, answer: str) -> None:
        """A Python 3.12 that answers so to the question whether it can make environments and has its headers."""
        script(self.bin / "python3.12", f"echo {answer}")

    def make(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self._run("make", "--no-print-directory", *arguments)

    def dry(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return self._run("python3", "envs/run_recipe.py", *arguments, "--dry-run", **environment)

    def _run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        environment |= {"PATH": str(self.bin)}
        return subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def machine(tmp_path) -> Machine:
    return Machine(tmp_path)


def fault(run: subprocess.CompletedProcess[str]) -> str:
    """The one line that a run stopped with, which installed nothing."""
    first, *others = run.stderr.splitlines()
    assert run.returncode != 0
    assert run.stdout.startswith("python3 envs/run_recipe.py") or run.stdout.count("\n") <= 2
    assert all(line.startswith("make: ***") for line in others)
    assert first.startswith("error: ")
    return first


def test_a_misspelt_recipe_gets_the_valid_names_before_anything_else(machine):
    said = fault(machine.make("report", "RECIPE=smolm2"))
    assert said == f"error: RECIPE = smolm2: choose from {', '.join(recipes())}"
    assert not (machine.root / ".venv").exists()


def test_a_file_that_recipes_extend_is_no_recipe(machine):
    assert run_recipe.BASES == BASES
    assert "choose from" in fault(machine.dry("unsloth-notebook"))


@pytest.mark.parametrize("recipe", recipes())
def test_the_environment_is_for_a_gpu_where_training_refuses_to_run_without_one(recipe, root, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    settings = load(root / "params.yaml", {"recipe": recipe, "path": "data"})
    try:
        gpu.require_gpu(settings)
        refused = False
    except PipelineError:
        refused = True
    keys = run_recipe.keys_of(recipe, [])
    assert run_recipe.needs_gpu(keys) == refused
    assert keys["vram_gib"] == ("null" if settings.vram_gib is None else str(settings.vram_gib))


def test_the_readers_own_recipe_for_the_cpu_needs_no_gpu(machine):
    (machine.root / "workflow/recipes/mine.yaml").write_text("extends: tiny\nseed: 3\n")
    run = machine.dry("mine", "source=local", "path=my data")
    assert run.stdout.splitlines() == [
        "+ make --no-print-directory .venv/.ready",
        "+ .venv/bin/snakemake --cores 1 report --quiet rules host --config recipe=mine source=local 'path=my data'",
    ]


def test_a_recipe_that_extends_nothing_that_exists_names_the_file(machine):
    (machine.root / "workflow/recipes/mine.yaml").write_text("extends: tinny\n")
    assert fault(machine.dry("mine")).startswith("error: workflow/recipes/mine.yaml: extends = tinny: no such file")


def test_overrides_decide_too(machine):
    assert "needs an NVIDIA GPU" in fault(machine.dry("tiny", "engine=vllm"))


def test_without_a_driver_it_says_so_in_one_line(machine):
    said = fault(machine.make("report", "RECIPE=smollm2"))
    assert "recipe smollm2 needs an NVIDIA GPU, and this machine has no NVIDIA driver" in said
    assert not (machine.root / ".venv-cuda").exists()


def test_a_driver_that_finds_no_gpu_is_quoted(machine):
    script(machine.bin / "nvidia-smi", "echo 'No devices were found'", "exit 6")
    assert "nvidia-smi finds none (No devices were found)" in fault(machine.dry("smollm2"))


def test_a_driver_that_is_too_old_for_the_packages_is_named(machine):
    machine.has_gpus("NVIDIA GeForce RTX 4090, 535.161.07, 24564")
    said = fault(machine.dry("rtx4090"))
    assert "driver 535.161.07 is too old" in said
    assert "580 or newer" in said


def test_a_gpu_with_too_little_memory_is_named_with_what_the_recipe_is_for(machine):
    machine.has_gpus(T4)
    said = fault(machine.dry("rtx4090"))
    assert "is for a GPU of 23.65 GiB, and Tesla T4 has 15.0" in said
    machine.has_python("True True")
    assert machine.dry("rtx4090", "vram_gib=14").returncode == 0


def test_a_gpu_sold_as_16_gb_may_run_a_recipe_of_16(machine):
    machine.has_gpus(T4)
    machine.has_python("True True")
    assert machine.dry("phi4").returncode == 0


def test_of_several_gpus_the_largest_counts(machine):
    machine.has_gpus(T4, LARGE)
    machine.has_python("True True")
    assert machine.dry("rtx4090").stdout.startswith("NVIDIA H100 80GB HBM3, 79.6 GiB, driver 580.95.05\n")


@pytest.mark.parametrize(
    ("gpus", "environment", "arguments"),
    [
        ([LARGE, LARGE], {}, "--cores 2 report --quiet rules host --resources gpu=2 --config"),
        (
            [LARGE] * 4,
            {"CUDA_VISIBLE_DEVICES": "1,3"},
            "--cores 2 report --quiet rules host --resources gpu=2 --config",
        ),
        ([LARGE, LARGE], {"CUDA_VISIBLE_DEVICES": "1"}, "--cores 1 report --quiet rules host --config"),
        ([T4, LARGE], {}, "--cores 1 report --quiet rules host --config"),
    ],
    ids=["two", "two of four", "one of two", "two kinds"],
)
def test_gpus_of_one_kind_are_used_side_by_side(machine, gpus, environment, arguments):
    machine.has_gpus(*gpus)
    machine.has_python("True True")
    last = machine.dry("smollm2", **environment).stdout.splitlines()[-1]
    assert last == f"+ .venv-cuda/bin/snakemake {arguments} recipe=smollm2"


def test_without_a_c_compiler_it_says_what_to_install(machine):
    machine.has_gpus(LARGE)
    (machine.bin / "gcc").unlink()
    assert "install gcc" in fault(machine.dry("smollm2"))


@pytest.mark.parametrize("answer", ["True False", "False True", ""])
def test_without_python_3_12_and_its_headers_it_says_what_to_install(answer, machine):
    """pyenv leaves a python3.12 that fails for versions that are not chosen."""
    machine.has_gpus(LARGE)
    script(machine.bin / "python3", "exit 1")
    machine.has_python(answer)
    command = [sys.executable, "envs/run_recipe.py", "smollm2", "--dry-run"]
    environment = {"PATH": str(machine.bin)}
    run = subprocess.run(command, cwd=machine.root, env=environment, capture_output=True, text=True, check=False)
    said = fault(run)
    assert "Python 3.12 with venv and headers is missing" in said
    assert "apt-get install python3.12-venv python3.12-dev" in said
    assert "uv" in said


def test_pip_installs_by_the_digests_of_the_lock_file(machine):
    machine.has_gpus(LARGE)
    machine.has_python("True True")
    _, disk, *commands = machine.dry("smollm2", "seed=3").stdout.splitlines()
    assert disk.endswith(".venv-cuda gets the packages of envs/cuda.txt")
    pip = ".venv-cuda/bin/python -m pip install --no-deps"
    assert commands == [
        "+ python3.12 -m venv .venv-cuda",
        f"+ {pip} --require-hashes --requirement envs/cuda.txt",
        f"+ {pip} --no-build-isolation --editable .",
        "+ .venv-cuda/bin/gsm8k-grpo doctor --set=recipe=smollm2 --set=seed=3",
        "+ .venv-cuda/bin/snakemake --cores 1 report --quiet rules host --config recipe=smollm2 seed=3",
    ]


def test_uv_installs_where_it_is_there_and_brings_python(machine):
    machine.has_gpus(LARGE)
    script(machine.bin / "uv")
    script(machine.bin / "python3.12", "exit 127")
    uv = "+ uv pip install --python .venv-cuda/bin/python --no-deps"
    *_, create, packages, project, _, _ = machine.dry("smollm2").stdout.splitlines()
    found = "--managed-python --python 3.12" if sys.version_info[:2] != (3, 12) else "--python python3"
    assert create == f"+ uv venv --allow-existing {found} .venv-cuda"
    assert packages == f"{uv} --require-hashes --requirement envs/cuda.txt"
    assert project == f"{uv} --no-build-isolation --editable ."


def test_an_installer_that_fails_ends_the_command_and_is_named(machine):
    machine.has_gpus(LARGE)
    machine.has_python("True True")
    script(machine.bin / "uv", '[ "$1" = venv ] || exit 2')
    run = machine.make("report", "RECIPE=smollm2")
    assert run.returncode != 0
    assert "envs/cuda.txt: ended with 2; the same make command goes on from there" in run.stderr
    assert not (machine.root / ".venv-cuda/.ready").exists()


def test_an_environment_by_the_present_lock_file_is_used_as_it_is(machine):
    machine.has_gpus(LARGE)
    machine.has_python("True True")
    ready = machine.root / ".venv-cuda/.ready"
    ready.parent.mkdir()
    ready.touch()
    assert len(machine.dry("smollm2").stdout.splitlines()) == 3
    os.utime(machine.root / "envs/cuda.txt", (ready.stat().st_mtime + 1,) * 2)
    assert len(machine.dry("smollm2").stdout.splitlines()) == 7


def test_make_report_without_a_recipe_is_the_default_in_venv(machine):
    commands = machine.make("-n", "report", "-o", ".venv/.ready").stdout.splitlines()
    assert commands == ['PATH="$PWD/.venv/bin:$PATH" snakemake --cores 1 report --quiet rules host']


def test_make_report_hands_on_the_recipe_and_further_keys(machine):
    commands = machine.make("-n", "report", "RECIPE=smollm2", "CONFIG=source=local path=data").stdout.splitlines()
    assert commands == ["python3 envs/run_recipe.py 'smollm2' source=local path=data"]
