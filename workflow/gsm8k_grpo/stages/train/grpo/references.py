"""Log-probabilities of completions under the reference: the model that training starts from."""

from contextlib import AbstractContextManager, nullcontext

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

    The reference is the trainer's second model.  With adapters it is the trained model with the copy of the adapter
    that training began with, or without any adapter if TRL made no copy.

    Args:
        rows: `prompt_ids`, `prompt_mask`, `completion_ids` and `completion_mask` of whole groups.
    """
    model, adapter = _reference(trainer)
    with torch.no_grad(), adapter, disable_gradient_checkpointing(trainer.model, _reentrant(trainer)):
        logps, _ = completion_logps(trainer, model, rows, trainer.args.per_device_train_batch_size)
    return logps


def _reference(trainer: ResumableGRPOTrainer) -> tuple[nn.Module, AbstractContextManager[None]]:
    """The model to compute with, and the adapter that it has meanwhile."""
    if trainer.ref_model is not None:
        return trainer.ref_model, nullcontext()
    adapted = trainer.accelerator.unwrap_model(trainer.model)
    assert isinstance(adapted, PeftModel)
    return trainer.model, use_adapter(adapted, checkpoints.REFERENCE if checkpoints.REFERENCE in adapted.peft_config else None)
