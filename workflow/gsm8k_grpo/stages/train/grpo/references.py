"""Log-probabilities of completions under the reference: the model that training starts from."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.utils import use_adapter

from gsm8k_grpo.stages.train import checkpoints
from gsm8k_grpo.stages.train.grpo.objective import completion_logps
from gsm8k_grpo.stages.train.grpo.trainer import ResumableGRPOTrainer


def reference_logps(trainer: ResumableGRPOTrainer, rows: dict[str, Tensor]) -> Tensor:
    """(rows, completion length) log-probabilities under the reference, computed in batches of the update's size.

    If all weights are trained, the reference is the trainer's second model.  With adapters, it is the trained model
    with the copy of the adapter that training began with, or without any adapter if TRL made no copy.

    Args:
        rows: `prompt_ids`, `prompt_mask`, `completion_ids` and `completion_mask` of whole groups.
    """
    model, adapter = _reference(trainer)
    with without_gradients(trainer), adapter:
        logps, _, _ = completion_logps(trainer, model, rows, trainer.args.per_device_train_batch_size)
    return logps


@contextmanager
def without_gradients(trainer: ResumableGRPOTrainer) -> Iterator[None]:
    """Turn off gradients and gradient checkpointing, for forward passes between a generation and its update."""
    checkpointing: Any = trainer.args.gradient_checkpointing_kwargs
    with torch.no_grad(), disable_gradient_checkpointing(trainer.model, checkpointing):
        yield


def _reference(trainer: ResumableGRPOTrainer) -> tuple[nn.Module, AbstractContextManager[None]]:
    """The model to compute with, and a context in which it has the adapter of the reference."""
    if trainer.ref_model is not None:
        return trainer.ref_model, nullcontext()
    adapted = trainer.accelerator.unwrap_model(trainer.model)
    assert isinstance(adapted, PeftModel)
    copied = checkpoints.REFERENCE in adapted.peft_config
    return trainer.model, use_adapter(adapted, checkpoints.REFERENCE if copied else None)
