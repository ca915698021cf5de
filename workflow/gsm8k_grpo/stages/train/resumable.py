"""What every trainer of this project adds to TRL's: timings, a stop when a value is not finite, adapters in 32 bit, and
checkpoints from which a run resumes, even if its weights are divided between the ranks.
"""

import math
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.utils import is_peft_model
from torch.optim.lr_scheduler import LRScheduler
from transformers.trainer import SCHEDULER_NAME

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.runtime import interrupts, ranks
from gsm8k_grpo.stages.train import checkpoints, parallel, sharding
from gsm8k_grpo.stages.train.random_state import RandomState

if TYPE_CHECKING:
    from transformers import PreTrainedModel, Trainer
else:
    Trainer = object  # the mixin comes before a subclass of Trainer among the bases of a class

WATCHED = ("loss", "grad_norm", "reward")
# In float16 the loss is scaled, at first by 2**16.  When a gradient overflows, the step is skipped and the scale is
# halved.  The 17th skipped step in a row had a scale of 1, so the gradients overflow without any scaling.
SKIPPED_IN_A_ROW = 17


def arguments(variant: str, params: Params, run_folder: Path, warmup_ratio: float) -> dict[str, Any]:
    """TRL's arguments that do not depend on the method: length, seed, precision, logging and checkpoints.

    Args:
        warmup_ratio: share of the steps in which the learning rate rises.
    """
    length = params.variants[variant]
    return {
        "max_steps": length.max_steps or -1,
        "num_train_epochs": length.epochs or 1,
        "warmup_steps": warmup_ratio,  # transformers reads a value below 1 as a share of the steps
        "seed": params.seed,
        "bf16": params.precision in ("mixed", "bfloat16"),
        "fp16": params.precision == "float16",
        "gradient_checkpointing_kwargs": {"use_reentrant": False} | _without_random_state(params),
        # Pinning gains little, since batches of tokens are small.  Where rows are text, each step reads the rows of a
        # whole generation, and pinning would search them for tensors: that took 0.19 s a step with 512 completions.
        "dataloader_pin_memory": False,
        "use_cpu": not torch.cuda.is_available(),  # without this, accelerate looks for no further ranks on a CPU
        "output_dir": str(run_folder),
        "save_total_limit": checkpoints.KEPT_LATEST,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # the filter would hide the values at which training must stop
        "report_to": "none",
        "disable_tqdm": True,
    }


def _without_random_state(params: Params) -> dict[str, Any]:
    """Let gradient checkpointing not save the random state, where CUDA graphs are used: a CUDA graph can't save it.

    Layers draw no random numbers, since their dropout is 0.
    """
    return {"preserve_rng_state": False} if params.train.cuda_graphs else {}


class ResumableMixin(Trainer):
    """A mixin, which comes before one of TRL's trainers among the bases of a class.

    Adds `seconds_generate`, `seconds_score` and `seconds_update` to the log of every step.

    Attributes:
        savers: functions that write further files into the folder of each checkpoint; rank 0 calls them.
        rank_savers: the same, called by every rank.
        request: the signal, if any, after which training has to stop.
        seconds_saving: the seconds that writing checkpoints has taken in this session.
        remedies: a sentence that says what may help, for the error about a value that is not finite.
    """

    remedies: str
    model: "PreTrainedModel"  # or a PeftModel around one, which has all attributes that are used here

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if is_peft_model(self.model):
            # TRL casts the adapters of a quantised model to bfloat16, which rounds away updates as small as 5e-6.
            for parameter in self.model.parameters():
                if parameter.requires_grad:
                    parameter.data = parameter.data.float()
        if ranks.count() > 1:
            if self.args.device.type == "cpu":
                # accelerate names a device cpu:0, to which transformers can't load the state of an optimizer.
                vars(self.args)["_setup_devices"] = torch.device("cpu")
            # In evaluation mode accelerate does not wrap the model, see `parallel.average_gradients`.
            self.accelerator.prepare_model = partial(self.accelerator.prepare_model, evaluation_mode=True)
        self.savers: list[Callable[[Path], None]] = []
        self.rank_savers: list[Callable[[Path], None]] = []
        self.request = interrupts.Request()
        self.seconds_saving = 0.0
        self._random_after_step: RandomState | None = None  # None before the first step of this session
        self._seconds = {"seconds_generate": 0.0, "seconds_score": 0.0}
        self._step_began = 0.0

    @property
    def run_folder(self) -> Path:
        """The folder of the run's checkpoints."""
        return Path(str(self.args.output_dir))

    def train_from(self, checkpoint: Path | None) -> None:
        """Train to the end, from a checkpoint or from the start."""
        self.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        self._step_began = self._step_began or time.perf_counter()
        return super().training_step(*args, **kwargs)

    def _clip_grad_norm(self, model: Any) -> Any:
        if not sharding.is_sharded(self.model):  # of divided weights, the backward pass has averaged them
            parallel.average_gradients(self.model.parameters())
        return sharding.whole(super()._clip_grad_norm(model))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        # The loss scaler skips every step whose gradients are not finite.  accelerate does not notice that for fused
        # optimizers, so the norm in the log decides.
        if self.accelerator.scaler is not None and not math.isfinite(logs.get("grad_norm", 0.0)):
            logs["grad_norm"] = self._count_skipped_step(logs["grad_norm"])
        for name in WATCHED:
            if not math.isfinite(logs.get(name) or 0.0):
                raise self.not_finite(self.state.global_step, name, logs[name])
        if self._step_began:
            total = time.perf_counter() - self._step_began
            logs |= self._seconds | {"seconds_update": total - sum(self._seconds.values())}
            self._seconds = dict.fromkeys(self._seconds, 0.0)
            self._step_began = 0.0
        super().log(logs, start_time)
        self._random_after_step = RandomState.now()

    @contextmanager
    def stopping_at_once(self) -> Iterator[None]:
        """Let a signal stop training at once, before the end of the block, which must not change the weights.

        The state after the last step is saved, so a resumed run repeats the block with the same random numbers.

        Raises:
            Interrupted: after a signal.
        """
        try:
            with self.request.obeyed_at_once():
                yield
        except interrupts.Interrupted:
            saved = (self.run_folder / f"checkpoint-{self.state.global_step}").exists()
            if self._random_after_step is not None and not saved:
                self._random_after_step.restore()
                self._save_checkpoint(self.model, trial=None)
            self.callback_handler.on_train_end(self.args, self.state, self.control)
            raise

    def _count_skipped_step(self, norm: float) -> Any:
        """Return None, the gradient norm of a skipped step in the log; print a message at the first one in a run.

        Raises:
            PipelineError: if this is the last of `SKIPPED_IN_A_ROW` skipped steps in a row.
        """
        norms = [entry["grad_norm"] for entry in self.state.log_history if "grad_norm" in entry]
        if None not in norms:
            print(
                f"step {self.state.global_step}: the gradients overflow float16 ({norm}); the step is skipped and the "
                "scale of the loss halved, which is ordinary; metrics.json counts such steps (skipped_steps)",
                file=sys.stderr,
            )
        in_a_row = [*norms, None][-SKIPPED_IN_A_ROW:]
        if len(in_a_row) == SKIPPED_IN_A_ROW and not any(norm is not None for norm in in_a_row):
            what = f"the gradients overflow float16 for the {SKIPPED_IN_A_ROW}th step in a row, and their norm"
            raise self.not_finite(self.state.global_step, what, norm)
        return None

    def checkpoint_size(self) -> int:
        """The approximate size of a checkpoint in bytes: the trained tensors, and the optimizer's state for each."""
        states = self.optimizer.state.values() if self.optimizer else ()
        tensors = [value for state in states for value in state.values() if torch.is_tensor(value)]
        return self.weights_size() + sum(tensor.nbytes for tensor in tensors)

    def weights_size(self) -> int:
        """The size of the trained tensors in bytes."""
        return sum(parameter.nbytes for parameter in self.model.parameters() if parameter.requires_grad)

    def save_weights(self, folder: Path, weights: dict[str, Any] | None = None) -> None:
        """Save the model and its tokenizer, without the pickle of the training arguments that transformers adds.

        Args:
            weights: what `whole_weights` returned; None lets transformers read the weights from the model.
        """
        self._save(str(folder), state_dict=weights)
        (folder / "training_args.bin").unlink()
        shutil.rmtree(folder / checkpoints.REFERENCE, ignore_errors=True)

    def whole_weights(self) -> dict[str, Any] | None:
        """The weights by name, made whole, if they are divided between the ranks, else None.

        Every rank must call this; only rank 0 gets the weights, and the others get an empty dictionary.
        """
        return sharding.whole_weights(self.model) if sharding.is_sharded(self.model) else None

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        weights = self.whole_weights()
        if self.args.should_save:
            self._save(output_dir, state_dict=weights)

    def not_finite(self, step: int, what: str, value: float) -> PipelineError:
        """The error for a value that is NaN or infinite."""
        last = checkpoints.newest(self.run_folder)
        return PipelineError(
            f"step {step}: {what} is {value}; training stopped before it was saved. "
            f"{f'{last} is the last good checkpoint' if last else 'There is no checkpoint yet'}. {self.remedies}"
        )

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        checkpoint = self.run_folder / f"checkpoint-{self.state.global_step}"
        began = time.perf_counter()
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad and not sharding.part(parameter).isfinite().all():
                raise self.not_finite(self.state.global_step, f"a weight of {name}", float("nan"))
        with checkpoints.writing(self.run_folder, checkpoint, self.checkpoint_size()):
            super()._save_checkpoint(model, trial)
            for save in [*self.rank_savers, *(self.savers if ranks.rank() == 0 else [])]:
                save(checkpoint)
            parallel.wait()
            if ranks.rank() == 0:
                checkpoints.seal(checkpoint)
            parallel.wait()
        self.seconds_saving += time.perf_counter() - began

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if sharding.is_sharded(self.model):
            sharding.load_weights(self.model, Path(resume_from_checkpoint))
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not sharding.is_sharded(self.model):
            super()._save_optimizer_and_scheduler(output_dir)
            return
        optimizer, schedule = self._optimizer_and_schedule()
        sharding.save_optimizer(self.model, optimizer, Path(output_dir))
        if self.args.should_save:
            torch.save(schedule.state_dict(), Path(output_dir, SCHEDULER_NAME))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if not checkpoint or not sharding.is_sharded(self.model):
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        optimizer, schedule = self._optimizer_and_schedule()
        sharding.load_optimizer(self.model, optimizer, Path(checkpoint))
        schedule.load_state_dict(torch.load(Path(checkpoint, SCHEDULER_NAME), weights_only=True))

    def _optimizer_and_schedule(self) -> tuple[torch.optim.Optimizer, LRScheduler]:
        """PyTorch's optimizer, without accelerate's wrapper, and the schedule of its learning rate."""
        assert isinstance(self.optimizer, AcceleratedOptimizer)
        assert self.lr_scheduler is not None
        return self.optimizer.optimizer, self.lr_scheduler
