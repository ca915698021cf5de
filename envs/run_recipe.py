"""`make report RECIPE=NAME`: set up the environment that a recipe needs, and run the pipeline with the recipe.

A recipe for the CPU runs in `.venv`, which `make` sets up, and one for a GPU in `.venv-cuda`, by envs/cuda.txt.  Before
the packages for a GPU are downloaded, which takes gigabytes, this looks for what they need: a GPU with its memory,
NVIDIA's driver, disk space, a C compiler and Python 3.12.  One line names what is missing.  When the environment
is complete, `gsm8k-grpo doctor` computes the memory plan and looks at the rest.

Uses the standard library alone, because nothing else is installed yet.  By hand:

    python3 envs/run_recipe.py smollm2 --dry-run                  # looks at the machine and prints the commands
    python3 envs/run_recipe.py smollm2 source=local path=FOLDER   # further keys of the configuration
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RECIPES = ROOT / "workflow/recipes"
BASES = ("defaults", "more-sets", "unsloth-notebook")  # files that recipes extend; `config/recipes.py` has them too
CUDA = Path(".venv-cuda")
LOCK = Path("envs/cuda.txt")
OLDEST_DRIVER = 580  # CUDA 13's: https://docs.nvidia.com/cuda/cuda-toolkit-release-notes/
DISK_GIB = 15  # 9.2 GB of packages (docs/container.md), and the installer keeps what it downloads
# A GPU sold as 16 GB has 15 GiB or more, and the plan, which is exact, is not known before the packages are there.
MEMORY_MARGIN = 0.9
SCALAR = re.compile(r"^(\w+):[ \t]+([^\s#].*?)[ \t]*(?:#.*)?$", re.MULTILINE)  # a key of the top level, with its value
PYTHON = "import ensurepip, pathlib, sys, sysconfig, venv\n" + (
    "print(sys.version_info[:2] == (3, 12), (pathlib.Path(sysconfig.get_path('include')) / 'Python.h').is_file())"
)


class SetUpError(Exception):
    """What the recipe or the machine lacks, and what to do; shown without a traceback."""


@dataclass(frozen=True)
class Gpu:
    name: str
    driver: str
    gib: float


# The recipe


def recipes() -> list[str]:
    return sorted(path.stem for path in RECIPES.glob("*.yaml") if path.stem not in BASES)


def keys_of(recipe: str, overrides: list[str]) -> dict[str, str]:
    """The keys of the top level that have one value: of the recipe, then params.yaml, then the overrides.

    The configuration is read as a whole, and checked, as soon as the packages for that are there.
    """
    if recipe not in recipes():
        raise SetUpError(f"RECIPE = {recipe}: choose from {', '.join(recipes())}")
    chain, name = [], recipe
    while name not in chain:
        chain.append(name)
        path = RECIPES / f"{name}.yaml"
        if not path.is_file():
            raise SetUpError(f"workflow/recipes/{chain[-2]}.yaml: extends = {name}: no such file in workflow/recipes")
        name = scalars(path).get("extends", "defaults")
    keys: dict[str, str] = {}
    for file in [*(RECIPES / f"{name}.yaml" for name in reversed(chain)), ROOT / "params.yaml"]:
        keys |= scalars(file)
    return keys | dict(override.partition("=")[::2] for override in overrides)


def scalars(path: Path) -> dict[str, str]:
    return {key: value.strip("'\"") for key, value in SCALAR.findall(path.read_text(encoding="utf-8"))}


def needs_gpu(keys: dict[str, str]) -> bool:
    """As `models/gpu.py` decides it."""
    return (
        keys["backend"] == "unsloth"
        or keys["engine"] == "vllm"
        or keys["precision"] != "float32"
        or keys["quantization"] != "null"
    )


# The machine


def require_gpus(recipe: str, vram_gib: str) -> list[Gpu]:
    """The GPUs of this machine, the largest first, if that one suits the recipe."""
    without = f"recipe {recipe} needs an NVIDIA GPU, and"
    remedy = "`make report` runs the recipe tiny without one"
    if shutil.which("nvidia-smi") is None:
        raise SetUpError(f"{without} this machine has no NVIDIA driver (there is no nvidia-smi); {remedy}")
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader,nounits"]
    answer = subprocess.run(query, capture_output=True, text=True)
    rows = [line.rsplit(", ", 2) for line in answer.stdout.splitlines() if line]
    if answer.returncode or not rows:
        said = (answer.stdout + answer.stderr).strip().partition("\n")[0] or "it lists none"
        raise SetUpError(f"{without} nvidia-smi finds none ({said}); {remedy}")
    gpus = [Gpu(name, driver, int(mebibytes) / 1024) for name, driver, mebibytes in rows]
    gpus.sort(key=lambda gpu: gpu.gib, reverse=True)
    gpu = gpus[0]
    if int(gpu.driver.partition(".")[0]) < OLDEST_DRIVER:
        raise SetUpError(
            f"NVIDIA's driver {gpu.driver} is too old for CUDA 13, with which envs/cuda.txt is built; install driver "
            f"{OLDEST_DRIVER} or newer (https://www.nvidia.com/drivers)"
        )
    if vram_gib != "null" and gpu.gib < MEMORY_MARGIN * float(vram_gib):
        raise SetUpError(
            f"recipe {recipe} is for a GPU of {vram_gib} GiB, and {gpu.name} has {gpu.gib:.1f}; choose another recipe "
            "(docs/recipes.md has their memory), or plan this one for less with CONFIG='vram_gib=GIB'"
        )
    return gpus


def jobs_at_once(gpus: list[Gpu]) -> int:
    """How many jobs run side by side, each on a GPU of its own: a job takes any GPU, so all must be of one kind."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    usable = len(gpus) if visible is None else min(len(gpus), len(visible.split(",")))
    return usable if len({gpu.name for gpu in gpus}) == 1 else 1


def require_disk() -> float:
    """GiB that are free for the packages."""
    free = shutil.disk_usage(ROOT).free / 2**30
    if free < DISK_GIB:
        raise SetUpError(
            f"{ROOT}: {free:.1f} GiB are free, and the packages for a GPU take up to {DISK_GIB}; free some"
        )
    return free


def python_3_12() -> str | None:
    """The command of a Python 3.12 that can make environments and has its headers, which Triton compiles with."""
    for command in filter(shutil.which, ("python3.12", "python3")):
        # A shim of pyenv is there for versions that are not chosen, too; then it fails.
        answer = subprocess.run([command, "-c", PYTHON], capture_output=True, text=True)
        if answer.stdout.split() == ["True", "True"]:
            return command
    return None


def require_platform() -> None:
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise SetUpError(f"envs/cuda.txt is pinned for Linux on x86_64, and this is {platform.system()} on "
                      f"{platform.machine()}")  # fmt: skip


def require_compiler() -> None:
    if not (shutil.which("gcc") or shutil.which("clang")):
        raise SetUpError("Triton compiles with a C compiler, and there is none; install gcc (apt-get install gcc)")


# The commands


def install() -> list[list[str]]:
    """What sets up `.venv-cuda`: by uv, which also downloads Python 3.12, else by pip."""
    locked = ["--no-deps", "--require-hashes", "--requirement", str(LOCK)]
    project = ["--no-deps", "--no-build-isolation", "--editable", "."]
    python = str(CUDA / "bin/python")
    found = python_3_12()
    if shutil.which("uv"):
        pip = ["uv", "pip", "install", "--python", python]
        # uv's own Pythons have their headers; those that are left in the system have none.
        chosen = ["--python", found] if found else ["--managed-python", "--python", "3.12"]
        create = ["uv", "venv", "--allow-existing", *chosen, str(CUDA)]
    elif found:
        pip = [python, "-m", "pip", "install"]
        create = [found, "-m", "venv", str(CUDA)]
    else:
        raise SetUpError(
            f"Python 3.12 with venv and headers is missing, for which {LOCK} is pinned; install it (Debian and Ubuntu: "
            "apt-get install python3.12-venv python3.12-dev), or install uv (https://docs.astral.sh/uv/), which brings "
            "its own"
        )
    return [create, [*pip, *locked], [*pip, *project]]


def is_complete() -> bool:
    """Whether `.venv-cuda` was set up by the present lock file."""
    ready = ROOT / CUDA / ".ready"
    return ready.is_file() and all(
        ready.stat().st_mtime > (ROOT / file).stat().st_mtime for file in (LOCK, "pyproject.toml")
    )


def pipeline(environment: Path, recipe: str, overrides: list[str], jobs: int) -> list[str]:
    # Without --quiet Snakemake prints every file of every job.
    call = ["snakemake", "--cores", str(jobs), "report", "--quiet", "rules", "host"]
    if jobs > 1:
        call += ["--resources", f"gpu={jobs}"]
    return [str(environment / "bin" / call[0]), *call[1:], "--config", f"recipe={recipe}", *overrides]


class Runner:
    """Prints each command and, unless this is a dry run, runs it in the repository."""

    def __init__(self, dry: bool):
        self.dry = dry

    def run(self, command: list[str]) -> None:
        print("+", shlex.join(command), flush=True)
        if self.dry:
            return
        code = subprocess.run(command, cwd=ROOT).returncode
        if code:
            raise SetUpError(f"{shlex.join(command)}: ended with {code}; the same make command goes on from there")

    def replace(self, command: list[str], environment: Path) -> None:
        """Go on as this command, so that signals reach it; the environment's commands come first."""
        print("+", shlex.join(command), flush=True)
        if not self.dry:
            path = os.pathsep.join([str(ROOT / environment / "bin"), os.environ["PATH"]])
            os.chdir(ROOT)
            os.execve(command[0], command, os.environ | {"PATH": path})


def set_up_cuda(recipe: str, keys: dict[str, str], overrides: list[str], runner: Runner) -> int:
    """Returns how many jobs run side by side."""
    gpus = require_gpus(recipe, keys["vram_gib"])
    jobs = jobs_at_once(gpus)
    side_by_side = f", {jobs} jobs side by side" if jobs > 1 else ""
    print(f"{gpus[0].name}, {gpus[0].gib:.1f} GiB, driver {gpus[0].driver}{side_by_side}")
    require_platform()
    require_compiler()
    if not is_complete():
        print(f"{require_disk():.0f} GiB of disk are free; {CUDA} gets the packages of {LOCK}")
        for command in install():
            runner.run(command)
        if not runner.dry:
            (ROOT / CUDA / ".ready").touch()
    settings = [f"--set={override}" for override in (f"recipe={recipe}", *overrides)]
    runner.run([str(CUDA / "bin/gsm8k-grpo"), "doctor", *settings])
    return jobs


def main() -> int:
    parser = argparse.ArgumentParser(description="Set up the environment that a recipe needs, and run the recipe.")
    parser.add_argument("recipe")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="further keys of the configuration")
    parser.add_argument("--dry-run", action="store_true", help="look at the machine and print the commands only")
    arguments = parser.parse_args()
    runner = Runner(arguments.dry_run)
    try:
        keys = keys_of(arguments.recipe, arguments.overrides)
        if needs_gpu(keys):
            environment, jobs = CUDA, set_up_cuda(arguments.recipe, keys, arguments.overrides, runner)
        else:
            environment, jobs = Path(".venv"), 1
            runner.run(["make", "--no-print-directory", ".venv/.ready"])
        runner.replace(pipeline(environment, arguments.recipe, arguments.overrides, jobs), environment)
    except SetUpError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
