"""What this machine has that the pipeline may need, part by part; nothing is changed, and no network is used."""

import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import metadata, util
from pathlib import Path

import psutil
import torch
from packaging.requirements import Requirement
from packaging.version import Version

from gsm8k_grpo.config.recipes import RECIPES

GIB = 2**30
ENVIRONMENTS = RECIPES.parent.parent / "envs"
OLDEST_PYTHON = (3, 11)
CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")
SHOWN_PACKAGES = 5
IMPORT_SECONDS = 120


@dataclass(frozen=True)
class Finding:
    """What was found of a part of the machine, and whether it is as it should be."""

    part: str
    found: str
    good: bool = True


def findings() -> Iterator[Finding]:
    yield Finding("Python", platform.python_version(), sys.version_info >= OLDEST_PYTHON)
    yield locked(ENVIRONMENTS / ("cuda.txt" if torch.version.cuda else "cpu.txt"))
    yield Finding("CPU", f"{_cores()} cores")
    yield Finding("memory", f"{memory() / GIB:.1f} GiB, {psutil.virtual_memory().available / GIB:.1f} free")
    yield Finding("disk", f"{free(Path.cwd()) / GIB:.1f} GiB free in {Path.cwd()}")
    yield from _cards()
    for package in ("vllm", "unsloth"):
        wrong = fault(package)
        yield Finding(package, wrong or metadata.version(package), wrong is None or not torch.version.cuda)
    yield Finding("C compiler", compiler() or "none with Python's headers; only recipes for a card need one")
    engines = [name for name in ("docker", "podman", "apptainer") if shutil.which(name)]
    yield Finding("containers", ", ".join(engines) or "no engine (docker, podman, apptainer); none is needed")


def locked(lock: Path) -> Finding:
    """Whether the installed packages are those of a lock file."""
    found = [_deviation(requirement) for requirement in pins(lock)]
    wrong = [deviation for deviation in found if deviation]
    name = f"envs/{lock.name}"
    if not wrong:
        return Finding("packages", f"the {len(found)} of {name}")
    more = f" and {len(wrong) - SHOWN_PACKAGES} more" if len(wrong) > SHOWN_PACKAGES else ""
    return Finding(
        "packages", f"{len(wrong)} of {len(found)} not as {name}: {', '.join(wrong[:SHOWN_PACKAGES])}{more}", False
    )


def pins(lock: Path) -> Iterator[Requirement]:
    for line in lock.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith(("#", " ")):
            requirement = Requirement(line.removesuffix("\\").strip())
            if requirement.marker is None or requirement.marker.evaluate():
                yield requirement


def _deviation(pin: Requirement) -> str | None:
    """What is installed in place of a pin; None where it is what the pin says, whatever the build."""
    try:
        installed = metadata.version(pin.name)
    except metadata.PackageNotFoundError:
        return f"{pin.name} is missing"
    return None if pin.specifier.contains(Version(installed).public) else f"{pin.name} is {installed}"


def _cards() -> Iterator[Finding]:
    """Every card that PyTorch sees; a card that only the driver sees is said too."""
    if not torch.cuda.is_available():
        driver = _driver()
        if driver:
            yield Finding(
                "GPU", f"driver {driver} is here, and this PyTorch sees no card; install envs/cuda.txt", False
            )
        else:
            yield Finding("GPU", "none; recipe tiny does without")
    for index in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(index)
        left, total = torch.cuda.mem_get_info(index)
        bfloat16 = "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no bfloat16"
        yield Finding(
            "GPU", f"{card.name}, {total / GIB:.1f} GiB, {left / GIB:.1f} free, driver {_driver()}, {bfloat16}"
        )


@cache
def _driver() -> str | None:
    """The version of NVIDIA's driver, None without one."""
    if shutil.which("nvidia-smi") is None:
        return None
    told = subprocess.run(
        ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"], capture_output=True, text=True
    )
    return told.stdout.split()[0] if told.returncode == 0 and told.stdout.strip() else None


@cache
def fault(package: str) -> str | None:
    """Why a package can't be used, None where it can: it is imported in a process of its own, which it may change."""
    if util.find_spec(package) is None:
        return "is not installed"
    tried = subprocess.run(
        [sys.executable, "-c", f"import {package}"], capture_output=True, text=True, timeout=IMPORT_SECONDS
    )
    return None if tried.returncode == 0 else f"can't be imported ({tried.stderr.strip().splitlines()[-1]})"


def compiler() -> str | None:
    """The C compiler that Triton would take, where Python's headers are there too."""
    found = shutil.which("gcc") or shutil.which("clang")
    return found if (Path(sysconfig.get_path("include")) / "Python.h").is_file() else None


def _cores() -> int:
    return len(psutil.Process().cpu_affinity())


def memory() -> int:
    """Bytes of memory, of which a container may have less than the machine."""
    limit = CONTAINER_LIMIT.read_text().strip() if CONTAINER_LIMIT.is_file() else "max"
    total = psutil.virtual_memory().total
    return total if limit == "max" else min(total, int(limit))


def free(folder: Path) -> int:
    """Bytes that are free on the disk of a folder, which need not be there yet."""
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    return shutil.disk_usage(there).free
