"""`gsm8k-grpo doctor`: what this machine has, and which recipes it can run; where it can't, the reasons.

Looks at the machine and computes the memory plan.  The hub is asked only where told to, but for the config.json of a
model whose shape isn't known here.
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
from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.memory import advice, plan, shapes
from gsm8k_grpo.models import gpu

HUB_SECONDS = 10
WEIGHT_BYTES = 2  # of a weight on the hub


@dataclass(frozen=True)
class Verdict:
    """Whether a recipe can run here: `reasons` against it, and what it takes."""

    recipe: str
    reasons: list[str]
    takes: str = ""


@dataclass(frozen=True)
class Examination:
    findings: list[Finding]
    verdicts: list[Verdict]
    chosen: str

    @property
    def runs(self) -> bool:
        """Whether the chosen recipe can run."""
        return not next(verdict for verdict in self.verdicts if verdict.recipe == self.chosen).reasons

    def text(self) -> str:
        width = max(len(verdict.recipe) for verdict in self.verdicts) + 2
        lines = [f"{'' if one.good else '!':<2}{one.part:<12}{one.found}" for one in self.findings]
        lines += ["", "recipes (* is the chosen one)"]
        for verdict in self.verdicts:
            mark = "*" if verdict.recipe == self.chosen else ""
            fits = verdict.takes if not verdict.reasons else f"can't run: {verdict.reasons[0]}"
            lines.append(f"{mark:<2}{verdict.recipe:<{width}}{fits}")
            lines += [f"{'':<{width + 2}}           {reason}" for reason in verdict.reasons[1:]]
        return "\n".join(lines)


def doctor(chosen: str, load: Callable[[str], Params], ask_hub: bool) -> Examination:
    """Examine the machine and every recipe; `load` gives a recipe's configuration.

    With `ask_hub` the hub is asked for the chosen recipe's model and data.
    """
    reached, hub = _hub(load(chosen)) if ask_hub else (None, Finding("hub", "not asked; --hub asks it"))
    return Examination(
        [*machine.findings(), hub],
        [examine(name, load, reached) for name in recipes()],
        chosen,
    )


def examine(name: str, load: Callable[[str], Params], hub: bool | None = None) -> Verdict:
    """Whether this machine can run a recipe; `hub` is whether the hub was reached, None where it wasn't asked."""
    try:
        settings = load(name)
        planned = plan.plan(settings, shapes.shape_of(settings)).gib
    except PipelineError as error:
        return Verdict(name, [" ".join(str(error).split())])
    where = "of the card" if torch.cuda.is_available() else "of memory"
    remote = _not_here(settings)
    takes = f"fits, takes {planned:.1f} of {room(settings):.1f} GiB {where}" + _from_hub(remote, hub)
    return Verdict(name, list(_reasons(settings, planned, remote, hub)), takes)


def room(settings: Params) -> float:
    """GiB that training may take: of the card, or of the computer's memory where there is no card."""
    return advice.gpu_gib(settings) if torch.cuda.is_available() else machine.memory() / GIB


def _reasons(settings: Params, planned: float, remote: list[str], hub: bool | None) -> Iterator[str]:
    try:
        gpu.require_gpu(settings)
    except PipelineError as error:
        yield f"{str(error).partition(',')[0]}, {planned:.1f} GiB of it"
        return  # what follows is about what runs on a card
    if planned > room(settings):
        yield (
            f"takes {planned:.1f} GiB, {room(settings):.1f} are there; "
            f"`gsm8k-grpo plan --set recipe={settings.recipe}` says what to change"
        )
    for key, value, package in _packages(settings):
        wrong = machine.fault(package)
        if wrong:
            yield f"{key} = {value}: {package} {wrong}; install envs/cuda.txt"
    if settings.precision in ("mixed", "bfloat16") and not torch.cuda.is_bf16_supported(including_emulation=False):
        yield f"precision = {settings.precision}: the card has no bfloat16; give float16"
    if _compiles(settings) and machine.compiler() is None:
        yield "Triton compiles its kernels' launchers, and there is no C compiler with Python's headers"
    if hub is False:
        yield from (f"{name}: not in the cache ({HF_HUB_CACHE}), and the hub can't be reached" for name in remote)
    free = machine.free(Path(HF_HUB_CACHE))
    size = shapes.shape_of(settings).parameters * WEIGHT_BYTES
    if settings.model in remote and free < size:
        yield f"model = {settings.model}: takes {size / GIB:.1f} GiB of {HF_HUB_CACHE}, {free / GIB:.1f} are free"


def _packages(settings: Params) -> Iterator[tuple[str, str, str]]:
    """Packages that the keys need beside those of every recipe: key, value, package."""
    if settings.engine == "vllm":
        yield "engine", "vllm", "vllm"
    if settings.backend == "unsloth":
        yield "backend", "unsloth", "unsloth"
    if settings.quantization:
        yield "quantization", settings.quantization, "bitsandbytes"
    elif settings.train.optim.endswith("8bit"):
        yield "train.optim", settings.train.optim, "bitsandbytes"


def _compiles(settings: Params) -> bool:
    return settings.engine == "vllm" or settings.backend == "unsloth" or settings.train.compile


def _not_here(settings: Params) -> list[str]:
    """The model and the data set that must come from the hub, those in its cache left out."""
    wanted = [] if settings.model == "scratch" or Path(settings.model).is_dir() else [("model", settings.model)]
    if settings.source == "hub":
        wanted.append(("dataset", settings.download.hub.dataset))
    return [name for kind, name in wanted if not _cached(kind, name)]


def _cached(kind: str, name: str) -> bool:
    return (Path(HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type=kind) / "snapshots").is_dir()


def _from_hub(remote: list[str], hub: bool | None) -> str:
    asked = "" if hub else ", which was not asked"
    return f"; needs {' and '.join(remote)} from the hub{asked}" if remote else ""


def _hub(settings: Params) -> tuple[bool, Finding]:
    api = huggingface_hub.HfApi()
    try:
        api.dataset_info(settings.download.hub.dataset, timeout=HUB_SECONDS)
        if settings.model != "scratch" and not Path(settings.model).is_dir():
            api.model_info(settings.model, timeout=HUB_SECONDS)
    except Exception as error:  # the hub's client and its HTTP library share no base class
        reason = str(error).strip().partition("\n")[0][:120]
        return False, Finding("hub", f"{api.endpoint} can't be reached ({type(error).__name__}: {reason})", False)
    return True, Finding("hub", f"{api.endpoint} gives the model and the data")
