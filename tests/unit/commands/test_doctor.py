"""`gsm8k-grpo doctor`: the parts of a machine, and the reasons against a recipe."""

import re
from importlib import metadata
from pathlib import Path

import pytest
import torch
from gsm8k_grpo.commands import doctor, machine
from gsm8k_grpo.commands.doctor import examine
from gsm8k_grpo.commands.machine import Finding, locked_packages
from gsm8k_grpo.config.params import Params, load, recipes
from project import ROOT

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


def settings(**overrides) -> Params:
    return load(ROOT / "params.yaml", {key.replace("__", "."): value for key, value in overrides.items()})


def reasons(**overrides) -> list[str]:
    return examine("tiny", lambda name: settings(recipe=name, **overrides)).reasons


@without_gpu
def test_every_part_and_every_recipe_has_a_line(cli):
    done = cli("doctor", PATH="/nowhere")
    assert (done.returncode, done.stderr) == (0, "")
    parts, _, verdicts = done.stdout.partition("recipes (* is the chosen one)\n")
    assert [line[2:].split()[0] for line in parts.splitlines() if line] == [
        "Python", "packages", "CPU", "memory", "disk", "GPU", "vllm", "unsloth", "C", "containers", "hub",
    ]  # fmt: skip
    assert [line[2:].split()[0] for line in verdicts.splitlines()] == recipes()
    assert re.search(r"^\* tiny +fits\b.* 1\.1 of \d+\.\d GiB", verdicts, re.MULTILINE)
    assert re.search(r"^  containers +no docker, podman or apptainer", parts, re.MULTILINE)
    assert re.search(r"^  C compiler +none\b", parts, re.MULTILINE)


@without_gpu
def test_a_chosen_recipe_that_can_not_run_fails_with_its_reason(cli):
    done = cli("doctor", "--set", "recipe=rtx4090")
    assert done.returncode == 1
    assert re.search(
        r"^\* rtx4090 +can't run: engine = vllm: needs a CUDA GPU with 18\.\d GiB", done.stdout, re.MULTILINE
    )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU")
def test_a_gpu_is_named_and_the_recipe_for_one_fits(cli):
    done = cli("doctor", "--set", "recipe=scratch-gpu")
    assert done.returncode == 0
    assert f"  GPU         {torch.cuda.get_device_properties(0).name}, " in done.stdout
    assert re.search(r"^\* scratch-gpu +fits\b", done.stdout, re.MULTILINE)


def test_there_is_no_reason_against_the_default():
    assert reasons() == []


def test_too_little_memory_is_a_reason():
    (reason,) = reasons(train__max_completion_length=10**6, base__architecture__context=2 * 10**6)
    assert re.match(r"needs [\d.]+ GiB, .* [\d.]+ GiB ", reason)
    assert "`gsm8k-grpo plan --set recipe=tiny`" in reason


def test_a_container_has_no_more_memory_than_its_limit(tmp_path, monkeypatch):
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(machine, "CONTAINER_LIMIT", limit)
    whole = machine.memory()
    limit.write_text(f"{2**30}\n")
    assert machine.memory() == 2**30
    limit.write_text("max\n")
    assert machine.memory() == whole > 2**30


def test_a_package_that_is_needed_and_missing_is_a_reason():
    if machine.import_fault("bitsandbytes") is None:
        pytest.skip("bitsandbytes is installed")
    (reason,) = reasons(train__optim="adamw_8bit")
    assert reason.startswith("train.optim = adamw_8bit: bitsandbytes is not installed; ")
    assert "envs/cuda.txt" in reason


def test_a_package_that_breaks_when_imported_is_named_with_its_error(tmp_path, monkeypatch):
    (tmp_path / "brokenpackage.py").write_text("raise ImportError('libcuda.so is missing')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert machine.import_fault("brokenpackage") == "can't be imported (ImportError: libcuda.so is missing)"


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "its import ended with exit status -9"),
        ("import time; time.sleep(60)", "its import takes more than 1 s"),
    ],
)
def test_a_package_whose_import_ends_without_a_word_or_not_at_all_is_named(code, fault, tmp_path, monkeypatch):
    (tmp_path / "silentpackage.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(machine, "IMPORT_SECONDS", 1)
    machine.import_fault.cache_clear()
    assert machine.import_fault("silentpackage") == f"can't be imported ({fault})"


def test_only_the_optimizers_of_the_variants_need_their_packages():
    supervised = {"variants": {"short": {"method": "sft"}, "full": {"method": "sft"}}}
    assert list(doctor._packages(settings(train__optim="adamw_8bit", **supervised))) == []
    needed = list(doctor._packages(settings(sft__optim="paged_adamw_8bit", **supervised)))
    assert needed == [("sft.optim", "paged_adamw_8bit", "bitsandbytes")]


def test_an_invalid_configuration_is_a_reason():
    (reason,) = reasons(train__num_generations=7)
    assert "num_generations (7)" in reason


def test_what_the_hub_must_give_is_named_and_a_reason_if_the_hub_is_out_of_reach(tmp_path, monkeypatch):
    monkeypatch.setattr("gsm8k_grpo.commands.doctor.HF_HUB_CACHE", str(tmp_path))

    def hub(name: str) -> Params:
        return settings(recipe=name, source="hub")

    assert re.search(r"openai/gsm8k from the hub, .*not checked$", examine("tiny", hub).needs)
    assert re.search(r"openai/gsm8k from the hub$", examine("tiny", hub, hub=True).needs)
    (reason,) = examine("tiny", hub, hub=False).reasons
    assert reason.startswith("openai/gsm8k: not in the cache ")
    assert str(tmp_path) in reason
    (tmp_path / "datasets--openai--gsm8k" / "snapshots").mkdir(parents=True)
    assert examine("tiny", hub, hub=False).reasons == []


def test_an_unreachable_hub_is_a_fault_but_no_reason_against_tiny(cli):
    done = cli("doctor", "--hub", HF_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 0  # tiny needs nothing of it
    assert re.search(r"^! hub +http://127\.0\.0\.1:9 can't be reached \(ConnectError: ", done.stdout, re.MULTILINE)


def lock(folder: Path, *lines: str) -> Path:
    path = folder / "cpu.txt"
    path.write_text("\n".join(["# a comment", *lines]) + "\n")
    return path


def test_packages_are_compared_with_the_lock_file_whatever_the_build(tmp_path):
    torch_here = metadata.version("torch").partition("+")[0]
    good = lock(tmp_path, f"torch=={torch_here} \\", "    --hash=sha256:00", "nothere==1 ; sys_platform == 'win32'")
    assert locked_packages(good) == Finding("packages", "all 1 as in envs/cpu.txt")
    wrong = lock(tmp_path, f"torch=={torch_here}", "typer==0.0.1", "not-there==1.0")
    typer_here = metadata.version("typer")
    assert locked_packages(wrong) == Finding(
        "packages", f"2 of 3 differ from envs/cpu.txt: typer is {typer_here}, not-there is missing", False
    )


def test_the_lock_files_of_the_repository_are_read_in_full():
    cpu = (ROOT / "envs/cpu.txt").read_text().splitlines()
    assert len(list(machine.locked_requirements(ROOT / "envs/cpu.txt"))) == len([line for line in cpu if "==" in line])
    assert "vllm" in {pin.name for pin in machine.locked_requirements(ROOT / "envs/cuda.txt")}
