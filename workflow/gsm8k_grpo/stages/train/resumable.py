"""What every trainer here adds to TRL's: it says where the time goes, stops at a figure that is no number, keeps
adapters in 32 bit, and writes checkpoints that a run can go on from.
"""

import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import is_peft_model

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.stages.train import checkpoints

WATCHED = ("loss", "grad_norm", "reward")


def arguments(variant: str, params: Params, run_folder: Path, warmup_ratio: float) -> dict[str, Any]:
    """What every trainer is told beside its own section: length, seed, precision, what is logged and what is kept."""
    length = params.variants[variant]
    return {
        "max_steps": length.max_steps or -1,
        "num_train_epochs": length.epochs or 1,
        "warmup_steps": warmup_ratio,  # below 1 transformers reads it as a share
        "seed": params.seed,
        "bf16": params.precision in ("mixed", "bfloat16"),
        "fp16": params.precision == "float16",
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
        "output_dir": str(run_folder),
        "save_total_limit": checkpoints.KEPT_LATEST,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # it would hide what the trainer must stop at
        "report_to": "none",
        "disable_tqdm": True,
    }


class ResumableMixin:
    """Stands before one of TRL's trainers among the bases of a class.

    Adds `seconds_generate`, `seconds_score` and `seconds_update` to every step's log.  `savers` write into the folder
    of each checkpoint; `seconds_saving` is what checkpoints took in all.  `remedies` says what helps where a figure is
    no number.
    """

    remedies: str

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        for parameter in self.model.parameters():
            # TRL brings the adapters of a quantised model to bfloat16, which rounds a step of 5e-6 away.
            if parameter.requires_grad and is_peft_model(self.model):
                parameter.data = parameter.data.float()
        self.savers: list[Callable[[Path], None]] = []
        self.seconds_saving = 0.0
        self._seconds = {"seconds_generate": 0.0, "seconds_score": 0.0}
        self._step_began = 0.0

    def train(self, resume_from_checkpoint: Path | None = None):
        return super().train(resume_from_checkpoint=resume_from_checkpoint and str(resume_from_checkpoint))

    def training_step(self, *args, **kwargs):
        self._step_began = self._step_began or time.perf_counter()
        return super().training_step(*args, **kwargs)

    def log(self, logs, start_time=None):
        for name in WATCHED:
            if not math.isfinite(logs.get(name, 0.0)):
                raise self.not_a_number(self.state.global_step, name, logs[name])
        if self._step_began:
            total = time.perf_counter() - self._step_began
            logs |= self._seconds | {"seconds_update": total - sum(self._seconds.values())}
            self._seconds = dict.fromkeys(self._seconds, 0.0)
            self._step_began = 0.0
        super().log(logs, start_time)

    def checkpoint_size(self) -> int:
        """Bytes of a checkpoint: the trained tensors, and what the optimizer remembers of each."""
        states = self.optimizer.state.values() if self.optimizer else ()
        remembered = [value for state in states for value in state.values() if torch.is_tensor(value)]
        return self.weights_size() + sum(tensor.nbytes for tensor in remembered)

    def weights_size(self) -> int:
        return sum(parameter.nbytes for parameter in self.model.parameters() if parameter.requires_grad)

    def save_weights(self, folder: Path) -> None:
        """The model and its tokenizer, and no pickle: transformers' copy of its arguments is one."""
        self.save_model(str(folder))
        (folder / "training_args.bin").unlink()
        shutil.rmtree(folder / checkpoints.REFERENCE, ignore_errors=True)

    def not_a_number(self, step: int, what: str, value: float) -> PipelineError:
        before = checkpoints.newest(Path(self.args.output_dir))
        return PipelineError(
            f"step {step}: {what} is {value}; training stopped before it was saved. "
            f"{f'{before} is the last good checkpoint' if before else 'There is no checkpoint yet'}. {self.remedies}"
        )

    def _save_checkpoint(self, model, trial):
        run = Path(self.args.output_dir)
        folder = run / f"checkpoint-{self.state.global_step}"
        began = time.perf_counter()
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad and not parameter.isfinite().all():
                raise self.not_a_number(self.state.global_step, f"a weight of {name}", float("nan"))
        with checkpoints.writing(run, folder, self.checkpoint_size()):
            super()._save_checkpoint(model, trial)
            for save in self.savers:
                save(folder)
            checkpoints.seal(folder)
        self.seconds_saving += time.perf_counter() - began
