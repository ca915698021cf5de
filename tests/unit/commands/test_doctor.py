"""`gsm8k-grpo doctor`: what is found of a machine, and what is said against a recipe."""

from importlib import metadata
from pathlib import Path

import pytest
import torch
from gsm8k_grpo.commands import machine
from gsm8k_grpo.commands.doctor import examine
from gsm8k_grpo.commands.machine import Finding, locked
from gsm8k_grpo.config.params import Params, load, recipes
from project import ROOT

without_card = pytest.mark.skipif(torch.cuda.is_available(), reason="a card is here")


def settings(**overrides) -> Params:
    return load(ROOT / "params.yaml", {key.replace("__", "."): value for key, value in overrides.items()})


def reasons(**overrides) -> list[str]:
    return examine("tiny", lambda name: settings(recipe=name, **overrides)).reasons


@without_card
def test_every_recipe_gets_its_line_and_the_chosen_one_decides(cli):
    done = cli("doctor", PATH="/nowhere")
    assert (done.returncode, done.stderr) == (0, "")
    parts, _, verdicts = done.stdout.partition("recipes (* is the chosen one)\n")
    assert [line[2:].split()[0] for line in parts.splitlines() if line] == [
        "Python", "packages", "CPU", "memory", "disk", "GPU", "vllm", "unsloth", "C", "containers", "hub",
    ]  # fmt: skip
    assert [line[2:].split()[0] for line in verdicts.splitlines()] == recipes()
    assert "* tiny               fits, takes 1.0 of " in verdicts
    assert "no engine (docker, podman, apptainer)" in parts
    assert "none with Python's headers" in parts


@without_card
def test_a_chosen_recipe_that_can_not_run_fails_with_its_reason(cli):
    done = cli("doctor", "--set", "recipe=rtx4090")
    assert done.returncode == 1
    assert "* rtx4090            can't run: engine = vllm: needs a CUDA GPU, 18." in done.stdout


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA card")
def test_a_card_is_named_and_the_recipe_for_one_fits(cli):
    done = cli("doctor", "--set", "recipe=scratch-gpu")
    assert done.returncode == 0
    assert f"  GPU         {torch.cuda.get_device_properties(0).name}, " in done.stdout
    assert "* scratch-gpu        fits, takes " in done.stdout


def test_nothing_speaks_against_the_default():
    assert reasons() == []


def test_memory_that_is_not_there_is_a_reason():
    (reason,) = reasons(train__max_completion_length=10**6)
    assert "GiB, " in reason
    assert "`gsm8k-grpo plan --set recipe=tiny` says what to change" in reason


def test_a_container_has_the_memory_that_it_is_given(tmp_path, monkeypatch):
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(machine, "CONTAINER_LIMIT", limit)
    whole = machine.memory()
    limit.write_text(f"{2**30}\n")
    assert machine.memory() == 2**30
    limit.write_text("max\n")
    assert machine.memory() == whole > 2**30


def test_a_package_that_is_needed_and_not_there_is_a_reason():
    if machine.fault("bitsandbytes") is None:
        pytest.skip("bitsandbytes is here")
    assert reasons(train__optim="adamw_8bit") == [
        "train.optim = adamw_8bit: bitsandbytes is not installed; install envs/cuda.txt"
    ]


def test_a_package_that_breaks_when_imported_is_named_with_its_error(tmp_path, monkeypatch):
    (tmp_path / "brokenpackage.py").write_text("raise ImportError('libcuda.so is missing')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert machine.fault("brokenpackage") == "can't be imported (ImportError: libcuda.so is missing)"


def test_a_recipe_that_params_yaml_makes_invalid_says_why():
    (reason,) = reasons(train__num_generations=7)
    assert "must be a multiple of num_generations (7)" in reason


def test_what_comes_from_the_hub_is_named_and_missing_where_the_hub_was_not_reached(tmp_path, monkeypatch):
    monkeypatch.setattr("gsm8k_grpo.commands.doctor.HF_HUB_CACHE", str(tmp_path))

    def hub(name: str) -> Params:
        return settings(recipe=name, source="hub")

    assert examine("tiny", hub).takes.endswith("; needs openai/gsm8k from the hub, which was not asked")
    assert examine("tiny", hub, hub=False).reasons == [
        f"openai/gsm8k: not in the cache ({tmp_path}), and the hub can't be reached"
    ]
    (tmp_path / "datasets--openai--gsm8k" / "snapshots").mkdir(parents=True)
    assert examine("tiny", hub, hub=False).reasons == []


def test_the_hub_is_asked_where_told_to(cli):
    done = cli("doctor", "--hub", HF_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 0  # tiny needs nothing of it
    assert "! hub         http://127.0.0.1:9 can't be reached (ConnectError: " in done.stdout


def lock(folder: Path, *lines: str) -> Path:
    path = folder / "cpu.txt"
    path.write_text("\n".join(["# a comment", *lines]) + "\n")
    return path


def test_packages_are_compared_with_the_lock_file_whatever_the_build(tmp_path):
    torch_here = metadata.version("torch").partition("+")[0]
    good = lock(tmp_path, f"torch=={torch_here} \\", "    --hash=sha256:00", "nothere==1 ; sys_platform == 'win32'")
    assert locked(good) == Finding("packages", "the 1 of envs/cpu.txt")
    wrong = lock(tmp_path, f"torch=={torch_here}", "typer==0.0.1", "not-there==1.0")
    typer_here = metadata.version("typer")
    assert locked(wrong) == Finding(
        "packages", f"2 of 3 not as envs/cpu.txt: typer is {typer_here}, not-there is missing", False
    )


def test_the_lock_files_of_the_repository_are_read_in_full():
    cpu = (ROOT / "envs/cpu.txt").read_text().splitlines()
    assert len(list(machine.pins(ROOT / "envs/cpu.txt"))) == len([line for line in cpu if "==" in line])
    assert "vllm" in {pin.name for pin in machine.pins(ROOT / "envs/cuda.txt")}
