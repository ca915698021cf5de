"""The value head: a linear map from the states that the language model's head reads to one number per token.

It is part of the trained model, so that the optimizer, gradient clipping and the check for values that are not finite
cover it.  It is not part of the model that is saved: a checkpoint holds it in a file of its own, which is not copied to
the results.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from gsm8k_grpo.runtime import ranks
from gsm8k_grpo.stages.train import checkpoints, sharding
from gsm8k_grpo.stages.train.resumable import ResumableMixin


class ValueHead(nn.Module):
    """Computes in 32 bit whatever the policy computes in, since an advantage is a small difference of values.

    It begins with zeros, as in Ziegler et al. (2019), so that the first values do not depend on chance.
    """

    def __init__(self, hidden: int):
        super().__init__()
        self.linear = nn.Linear(hidden, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, states: Tensor) -> Tensor:
        """Map (..., hidden) states to (...) values in float32."""
        with torch.autocast(states.device.type, enabled=False):
            return self.linear(states.float()).squeeze(-1).clone()  # a copy, since FSDP2 warns about views


class ValueHeadKeeper(TrainerCallback):
    """Saves the value head into each checkpoint, and loads it when a run resumes."""

    def __init__(self, trainer: ResumableMixin, head: ValueHead):
        self.trainer, self.head = trainer, head

    def save(self, checkpoint: Path) -> None:
        state = {name: sharding.whole(tensor) for name, tensor in self.head.state_dict().items()}
        if ranks.rank() == 0:
            save_file(state, checkpoint / checkpoints.VALUE_HEAD)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step:
            checkpoint = self.trainer.run_folder / f"checkpoint-{state.global_step}"
            sharding.load_whole(self.head, load_file(checkpoint / checkpoints.VALUE_HEAD))


def attach(trainer: ResumableMixin) -> None:
    """Give the trainer's model a value head, `model.value_head`."""
    width = trainer.model.get_output_embeddings().weight.shape[1]
    head = ValueHead(int(width)).to(trainer.model.device)
    trainer.model.add_module(checkpoints.HEAD, head)
    if sharding.is_sharded(trainer.model):
        sharding.shard_module(head, trainer.model.device)
    ignored = {f"{checkpoints.HEAD}.{name}" for name in head.state_dict()}
    trainer.model._keys_to_ignore_on_save = {*(trainer.model._keys_to_ignore_on_save or ()), *ignored}
    keeper = ValueHeadKeeper(trainer, head)
    trainer.rank_savers.append(keeper.save)
    trainer.add_callback(keeper)


def of(trainer: ResumableMixin) -> ValueHead:
    """The value head that `attach` gave the trainer's model."""
    head = trainer.model.get_submodule(checkpoints.HEAD)
    assert isinstance(head, ValueHead)
    return head
