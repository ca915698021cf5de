"""What this machine has that the pipeline may need, part by part.  Changes nothing and uses no network."""

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
    """The state of one part of the machine, and whether the pipeline can work with it."""

    part: str
    state: str
    good: bool = True


def findings() -> Iterator[Finding]:
    """Every part of the machine, in the order in which doctor lists them."""
    yield Finding("Python", platform.python_version(), sys.version_info >= OLDEST_PYTHON)
    yield locked_packages(ENVIRONMENTS / ("cuda.txt" if torch.version.cuda else "cpu.txt"))
    yield Finding("CPU", f"{_cores()} cores")
    yield Finding("memory", f"{memory() / GIB:.1f} GiB, {psutil.virtual_memory().available / GIB:.1f} free")
    yield Finding("disk", f"{free(Path.cwd()) / GIB:.1f} GiB free in {Path.cwd()}")
    yield from _gpus()
    for package in ("vllm", "unsloth"):
        fault = import_fault(package)
        yield Finding(package, fault or metadata.version(package), fault is None or not torch.version.cuda)
    yield Finding("C compiler", compiler() or "none with Python's headers; only recipes for a GPU need one")
    engines = [name for name in ("docker", "podman", "apptainer") if shutil.which(name)]
    yield Finding("containers", ", ".join(engines) or "no docker, podman or apptainer; they are optional")


def locked_packages(lock: Path) -> Finding:
    """Whether the installed packages have the versions of a lock file."""
    requirements = list(locked_requirements(lock))
    deviations = [deviation for requirement in requirements if (deviation := _deviation(requirement))]
    name = f"envs/{lock.name}"
    if not deviations:
        return Finding("packages", f"all {len(requirements)} as in {name}")
    more = f" and {len(deviations) - SHOWN_PACKAGES} more" if len(deviations) > SHOWN_PACKAGES else ""
    shown = f"{', '.join(deviations[:SHOWN_PACKAGES])}{more}"
    return Finding("packages", f"{len(deviations)} of {len(requirements)} differ from {name}: {shown}", False)


def locked_requirements(lock: Path) -> Iterator[Requirement]:
    """The requirements of a lock file that apply to this machine."""
    for line in lock.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith(("#", " ")):
            requirement = Requirement(line.removesuffix("\\").strip())
            if requirement.marker is None or requirement.marker.evaluate():
                yield requirement


def _deviation(requirement: Requirement) -> str | None:
    """What is installed instead of the locked version; None if both agree.  Local builds (`+cpu`) don't matter."""
    try:
        installed = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return f"{requirement.name} is missing"
    agrees = requirement.specifier.contains(Version(installed).public)
    return None if agrees else f"{requirement.name} is {installed}"


def _gpus() -> Iterator[Finding]:
    """A finding for every GPU that PyTorch sees, or for their absence; a driver without a GPU in PyTorch is a fault."""
    if not torch.cuda.is_available():
        if driver := _driver():
            state = f"driver {driver} is installed, but this PyTorch sees no GPU; install envs/cuda.txt"
            yield Finding("GPU", state, False)
        else:
            yield Finding("GPU", "none; recipe tiny needs none")
    for index in range(torch.cuda.device_count()):
        name = torch.cuda.get_device_properties(index).name
        available, total = torch.cuda.mem_get_info(index)
        bfloat16 = "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no bfloat16"
        memory = f"{total / GIB:.1f} GiB, {available / GIB:.1f} free"
        yield Finding("GPU", f"{name}, {memory}, driver {_driver()}, {bfloat16}")


@cache
def _driver() -> str | None:
    """The version of NVIDIA's driver, None without one."""
    if shutil.which("nvidia-smi") is None:
        return None
    query = subprocess.run(
        ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"], capture_output=True, text=True
    )
    return query.stdout.split()[0] if query.returncode == 0 and query.stdout.strip() else None


@cache
def import_fault(package: str) -> str | None:
    """Why a package can't be imported; None if it can.

    The import runs in a process of its own, because packages such as Unsloth change those that are already imported.
    """
    if util.find_spec(package) is None:
        return "is not installed"
    try:
        attempt = subprocess.run(
            [sys.executable, "-c", f"import {package}"], capture_output=True, text=True, timeout=IMPORT_SECONDS
        )
    except subprocess.TimeoutExpired:
        return f"can't be imported (its import takes more than {IMPORT_SECONDS} s)"
    if attempt.returncode == 0:
        return None
    lines = attempt.stderr.strip().splitlines() or [f"its import ended with exit status {attempt.returncode}"]
    return f"can't be imported ({lines[-1]})"


def compiler() -> str | None:
    """The C compiler that Triton would use; None if there is none, or if Python's headers are missing."""
    path = shutil.which("gcc") or shutil.which("clang")
    return path if (Path(sysconfig.get_path("include")) / "Python.h").is_file() else None


def _cores() -> int:
    return len(psutil.Process().cpu_affinity())


def memory() -> int:
    """Bytes of memory; a container may have less than its machine."""
    limit = CONTAINER_LIMIT.read_text().strip() if CONTAINER_LIMIT.is_file() else "max"
    total = psutil.virtual_memory().total
    return total if limit == "max" else min(total, int(limit))


def free(folder: Path) -> int:
    """Bytes that are free on the disk of a folder, which need not exist yet."""
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    return shutil.disk_usage(existing).free
