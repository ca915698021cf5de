"""`gsm8k-grpo doctor`: what this machine has, which recipes it can run, and why it can't run the others.

Looks at the machine and computes each recipe's memory plan.  Uses no network unless `--hub` is given, except for the
config.json of a model whose shape is not known here.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
import torch
from huggingface_hub.constants import HF_HUB_CACHE
from huggingface_hub.file_download import repo_folder_name

from gsm8k_grpo.commands import machine
from gsm8k_grpo.commands.machine import GIB, Finding
from gsm8k_grpo.config.params import Params, recipes
from gsm8k_grpo.files import PipelineError, first_line
from gsm8k_grpo.memory import advice, plan, shapes, suitability
from gsm8k_grpo.models import gpu

HUB_SECONDS = 10
LONGEST_REASON = 120  # characters shown of an error of the hub's client
WEIGHT_BYTES = 2  # size of a weight on the hub


@dataclass(frozen=True)
class Verdict:
    """Whether a recipe can run on this machine; it can if `reasons`, those against it, is empty."""

    recipe: str
    reasons: list[str]
    needs: str = ""
    """The memory that the recipe needs, and what it must get from the hub."""


@dataclass(frozen=True)
class Examination:
    """The parts of the machine, a verdict on each recipe, and which recipe is chosen."""

    findings: list[Finding]
    verdicts: list[Verdict]
    chosen: str

    @property
    def runs(self) -> bool:
        """Whether the chosen recipe can run."""
        return not next(verdict for verdict in self.verdicts if verdict.recipe == self.chosen).reasons

    def text(self) -> str:
        """One line per part and per recipe; `!` marks a part with a fault, and `*` the chosen recipe."""
        lines = [f"{'' if part.good else '!':<2}{part.part:<12}{part.state}" for part in self.findings]
        return "\n".join([*lines, "", "recipes (* is the chosen one)", *self._verdict_lines()])

    def _verdict_lines(self) -> Iterator[str]:
        width = max(len(verdict.recipe) for verdict in self.verdicts) + 2
        cannot = "can't run: "
        for verdict in self.verdicts:
            mark = "*" if verdict.recipe == self.chosen else ""
            outcome = f"{cannot}{verdict.reasons[0]}" if verdict.reasons else verdict.needs
            yield f"{mark:<2}{verdict.recipe:<{width}}{outcome}"
            for reason in verdict.reasons[1:]:
                yield " " * (2 + width + len(cannot)) + reason


def doctor(chosen: str, load: Callable[[str], Params], ask_hub: bool) -> Examination:
    """Examine the machine and every recipe.

    Args:
        chosen: the recipe that the configuration names.
        load: returns the configuration with another recipe.
        ask_hub: whether to ask the hub for the chosen recipe's model and data.
    """
    reachable, hub = _hub(load(chosen)) if ask_hub else (None, Finding("hub", "not checked; --hub checks it"))
    return Examination(
        [*machine.findings(), hub],
        [examine(name, load, reachable) for name in recipes()],
        chosen,
    )


def examine(name: str, load: Callable[[str], Params], hub: bool | None = None) -> Verdict:
    """Whether this machine can run a recipe; `hub` says whether the hub was reached, None if that was not checked."""
    try:
        settings = load(name)
        suitability.require_suitable(settings)
        planned = plan.plan(settings, shapes.shape_of(settings)).gib
    except PipelineError as error:
        return Verdict(name, [" ".join(str(error).split())])
    kind = "GPU memory" if torch.cuda.is_available() else "memory"
    remote = _not_cached(settings)
    needs = f"fits: needs {planned:.1f} of {available_gib(settings):.1f} GiB of {kind}" + _from_hub(remote, hub)
    return Verdict(name, list(_reasons(settings, planned, remote, hub)), needs)


def available_gib(settings: Params) -> float:
    """The GiB that training may use: of the GPU, or of the computer's memory if there is no GPU."""
    gpu_gib = advice.gpu_gib(settings) if torch.cuda.is_available() else None
    return machine.memory() / GIB if gpu_gib is None else gpu_gib


def _reasons(settings: Params, planned: float, remote: list[str], hub: bool | None) -> Iterator[str]:
    """Why this machine can't run a configuration.

    Args:
        planned: the GiB of the memory plan.
        remote: the names of model and data set, if they must come from the hub.
        hub: whether the hub was reached, None if that was not checked.
    """
    try:
        gpu.require_gpu(settings)
    except PipelineError as error:
        yield f"{str(error).partition(',')[0]} with {planned:.1f} GiB"
        return  # the other reasons assume a GPU
    if planned > available_gib(settings):
        yield (
            f"needs {planned:.1f} GiB, and {available_gib(settings):.1f} GiB are there; "
            f"`gsm8k-grpo plan --set recipe={settings.recipe}` says what to change"
        )
    for key, value, package in _packages(settings):
        fault = machine.import_fault(package)
        if fault:
            yield f"{key} = {value}: {package} {fault}; install envs/cuda.txt"
    if settings.precision in ("mixed", "bfloat16") and not torch.cuda.is_bf16_supported(including_emulation=False):
        yield f"precision = {settings.precision}: the GPU has no bfloat16; choose float16"
    if _compiles(settings) and machine.compiler() is None:
        yield "Triton needs a C compiler with Python's headers, and there is none"
    if hub is False:
        yield from (f"{name}: not in the cache ({HF_HUB_CACHE}), and the hub can't be reached" for name in remote)
    free = machine.free(Path(HF_HUB_CACHE))
    size = shapes.shape_of(settings).parameters * WEIGHT_BYTES
    if settings.model in remote and free < size:
        yield f"model = {settings.model}: needs {size / GIB:.1f} GiB in {HF_HUB_CACHE}, where {free / GIB:.1f} are free"


def _packages(settings: Params) -> Iterator[tuple[str, str, str]]:
    """Optional packages that the configuration needs: the key, its value, the package."""
    if settings.engine == "vllm":
        yield "engine", "vllm", "vllm"
    if settings.backend == "unsloth":
        yield "backend", "unsloth", "unsloth"
    if settings.quantization:
        yield "quantization", settings.quantization, "bitsandbytes"
        return
    sections = {settings.traits(variant).section: settings.settings_of(variant) for variant in settings.variants}
    for name, section in sections.items():
        if section.optim.endswith("8bit"):
            yield f"{name}.optim", section.optim, "bitsandbytes"


def _compiles(settings: Params) -> bool:
    """Whether Triton compiles kernels, whose launchers it compiles in C."""
    graphs = settings.engine == "graphs" and settings.graphs is not None and settings.graphs.compile
    layers = settings.train.compile or settings.sft.compile
    return settings.engine == "vllm" or settings.backend == "unsloth" or layers or graphs


def _not_cached(settings: Params) -> list[str]:
    """The names of the model and the data set, if they are on the hub and not yet in its cache."""
    wanted = [] if settings.model == "scratch" or Path(settings.model).is_dir() else [("model", settings.model)]
    if settings.source == "hub":
        wanted.append(("dataset", settings.download.hub.dataset))
    return [name for kind, name in wanted if not _cached(kind, name)]


def _cached(kind: str, name: str) -> bool:
    return (Path(HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type=kind) / "snapshots").is_dir()


def _from_hub(remote: list[str], hub: bool | None) -> str:
    unchecked = "" if hub else ", which was not checked"
    return f"; gets {' and '.join(remote)} from the hub{unchecked}" if remote else ""


def _hub(settings: Params) -> tuple[bool, Finding]:
    """Whether the hub has the model and the data set, and can be reached."""
    api = huggingface_hub.HfApi()
    try:
        api.dataset_info(settings.download.hub.dataset, timeout=HUB_SECONDS)
        if settings.model != "scratch" and not Path(settings.model).is_dir():
            api.model_info(settings.model, timeout=HUB_SECONDS)
    except Exception as error:  # the hub's client and its HTTP library share no base class
        reason = f"{type(error).__name__}: {first_line(error)[:LONGEST_REASON]}"
        return False, Finding("hub", f"{api.endpoint} can't be reached ({reason})", False)
    return True, Finding("hub", f"{api.endpoint} has the model and the data")
