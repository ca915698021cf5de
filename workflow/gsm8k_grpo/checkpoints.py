"""Resumable checkpoints of a training run, in `scratch/<variant>-<hash of what shapes training>/`.

A run that was interrupted finds its newest checkpoint again by that hash; other settings or other data make
another hash, so nothing resumes from a run that it does not continue.
"""

import hashlib
import json
from pathlib import Path

from transformers.trainer_utils import get_last_checkpoint

from gsm8k_grpo.files import sha256
from gsm8k_grpo.params import Params

SCRATCH = Path("scratch")
SHAPING = {"seed", "threads", "model", "base", "train"}


def folder(variant: str, params: Params, data: Path) -> Path:
    """The folder of a variant's checkpoints, for these parameters and the bytes of the training data."""
    shaping = params.model_dump(include=SHAPING) | {
        "variant": params.variants[variant].model_dump(),
        "rewards": params.variant_rewards(variant).model_dump(),
        "data": sha256(data),
    }
    digest = hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()
    return SCRATCH / f"{variant}-{digest[:12]}"


def newest(checkpoints: Path) -> str | None:
    """The newest checkpoint of a folder, None where there is none."""
    return get_last_checkpoint(checkpoints) if checkpoints.is_dir() else None
