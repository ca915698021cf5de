"""The folders of training runs, `checkpoints/<variant>-<hash of everything that shapes training>/`.

An interrupted run finds its checkpoints again by that hash.  Other settings, data, code or libraries give another hash,
so a run never resumes from the checkpoints of a different one.
"""

import hashlib
import json
import re
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.files import PipelineError, read_json, sha256
from gsm8k_grpo.runtime import locks
from gsm8k_grpo.runtime.imports import PACKAGE, import_closure
from gsm8k_grpo.stages.train import checkpoints
from gsm8k_grpo.stages.train.methods import method_of

FOLDER = Path("checkpoints")
OLD_FOLDER = Path("scratch")  # where earlier versions kept runs, which are listed and removed, but never resumed
NAME = re.compile(r"[a-z][a-z0-9_]*-[0-9a-f]{12}")
MLFLOW_RUN = "mlflow_run.json"  # in a run's folder: the id of its MLflow run
MODEL_CARD = "README.md"  # which TRL writes next to every checkpoint
CONTENT = re.compile(rf"({checkpoints.NAME.pattern}|kept|{MODEL_CARD}|{MLFLOW_RUN})(\.part)?")  # in a run's folder
SHAPING = {  # keys that shape training by every method
    "seed", "threads", "model", "chat_template_kwargs", "backend", "engine", "precision", "quantization", "lora",
    "base", "keep_checkpoints",
}  # fmt: skip
# Rooms whose code can't change what training computes.  The configuration's values count, not its code.
WITHOUT_EFFECT = frozenset({"config", "memory", "runtime", "tracking", "analysis", "records"})
LIBRARIES = ("torch", "transformers", "trl", "accelerate", "peft")


@dataclass(frozen=True)
class Run:
    """What is known of a run from its folder.

    Attributes:
        folder: the folder.
        step: the step of the newest checkpoint in it; 0 without one.
        steps: the steps of the whole run; 0 if there is no checkpoint.
        size: the size of the folder in bytes.
        foreign: the names of files and folders in it that the run did not write.
    """

    folder: Path
    step: int
    steps: int
    size: int
    foreign: tuple[str, ...] = ()

    @property
    def variant(self) -> str:
        return self.folder.name.rpartition("-")[0]


def folder(variant: str, params: Params, data: Path, base: Path, start: Path | None = None) -> Path:
    """The folder of a variant's checkpoints.

    Args:
        data: the training data; its digest is part of the hash.
        base: base.json, which names the base model and the digests of its files.
        start: the folder of the weights that training starts from; None for those of base.
    """
    shaping = params.model_dump(include=SHAPING) | {
        "variant": params.variants[variant].model_dump(),
        "method": method_of(params.variant_method(variant)).shaping(variant, params),
        "gpus": params.gpus_of(variant),
        "shard_weights": params.is_sharded(variant),
        "data": sha256(data),
        "base": sha256(base),
        "start": start and {path.name: sha256(path) for path in sorted(start.glob("[!.]*"))},
        "code": _code_digests(),
        "libraries": {name: version(name) for name in (*LIBRARIES, *_optional_libraries(variant, params))},
    }
    digest = hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()
    return FOLDER / f"{variant}-{digest[:12]}"


def runs() -> list[Run]:
    """Every run that has a folder; those in the folder of earlier versions come last.

    A folder with another name is the user's own, and so is what a link leads to; both are left out.
    """
    found = [path for place in (FOLDER, OLD_FOLDER) for path in sorted(place.glob("*-*"))]
    return [_read(path) for path in found if NAME.fullmatch(path.name) and path.is_dir() and not path.is_symlink()]


def remove(run: Run) -> None:
    """Remove a run's folder.

    Raises:
        PipelineError: if a process is training in it, or something else lies in it.
    """
    if run.foreign:
        raise PipelineError(f"{run.folder}: holds {', '.join(run.foreign)}, which the run did not write; move it away")
    with locks.held(f"train-{run.variant}"):
        shutil.rmtree(run.folder)


def _optional_libraries(variant: str, params: Params) -> list[str]:
    """Libraries that take part only if the configuration chooses them."""
    chosen: list[str] = [name for name in ("unsloth", "vllm") if name in (params.backend, params.engine)]
    eight_bit = params.quantization is not None or params.settings_of(variant).optim.endswith("8bit")
    return [*chosen, "bitsandbytes"] if eight_bit else chosen


def _code_digests() -> dict[str, str]:
    """The digest of every module that the stage imports, by its path in the package."""
    stage = Path(__file__).with_name("stage.py")
    modules = sorted(import_closure(stage, WITHOUT_EFFECT))
    return {str(path.relative_to(PACKAGE)): sha256(path) for path in modules}


def _read(folder: Path) -> Run:
    complete = [path for path in checkpoints.all_of(folder) if (path / checkpoints.MANIFEST).exists()]
    state = read_json(complete[-1] / checkpoints.STATE) if complete else {"global_step": 0, "max_steps": 0}
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    foreign = sorted(path.name for path in folder.iterdir() if not CONTENT.fullmatch(path.name))
    return Run(folder, state["global_step"], state["max_steps"], size, tuple(foreign))
