"""Weights, gradients and optimizer state divided between the ranks of a training, by PyTorch's FSDP2.

The method is described by Zhao et al. (2023), https://arxiv.org/abs/2304.11277, and is PyTorch's
`torch.distributed.fsdp.fully_shard`.  Each rank has a part of every tensor.  A layer's weights are gathered right
before it computes and freed right after; its gradients are averaged over the ranks as soon as they are known, and each
rank keeps those of its part.  The weights outside of the layers (the embeddings, the last norm, the head) are gathered
for the whole of a forward or a backward pass.

Every rank must run the same passes, since each of them gathers weights.  A model that `shard` was not called on is
whole, and the other functions of this module leave it as it is.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from gsm8k_grpo.models.compiling import layers_of
from gsm8k_grpo.runtime import ranks

Value = TypeVar("Value")

OPTIMIZER = "optimizer"  # the folder in a checkpoint that holds each rank's part of the optimizer state
RUN = "run_forward"  # the attribute of a divided model by which `forward` calls a function


def shard(network: PreTrainedModel, device: torch.device, mixed: bool) -> None:
    """Divide a model between all ranks, in place; each rank keeps its part on `device`.

    Args:
        mixed: gather the weights and compute in bfloat16, and average the gradients in float32.
    """
    mesh = init_device_mesh(device.type, (ranks.count(),))
    policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32) if mixed else MixedPrecisionPolicy()
    for layer in layers_of(network.get_decoder()):
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    # By default the weights outside of the layers would stay gathered after a pass without gradients, and the optimizer
    # would get these instead of the rank's own part.
    fully_shard(network, mesh=mesh, mp_policy=policy, reshard_after_forward=True)
    network.__dict__[RUN] = lambda compute: compute()
    register_fsdp_forward_method(network, RUN)


def shard_module(module: nn.Module, device: torch.device) -> None:
    """Divide a module that was added to a divided model, and that computes in the type of its own weights."""
    fully_shard(module, mesh=init_device_mesh(device.type, (ranks.count(),)))


def is_sharded(model: nn.Module) -> bool:
    return isinstance(model, FSDPModule)


def forward(network: nn.Module, compute: Callable[[], Value]) -> Value:
    """Call `compute`, which uses parts of the network without the network's own `forward`, and return its result.

    The weights outside of the layers are gathered meanwhile, and a backward pass from the result reaches them.
    """
    return cast(Value, getattr(network, RUN)(compute)) if is_sharded(network) else compute()


@contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """Keep all weights whole within the block, so that ranks may run different numbers of forward passes in it."""
    modules = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for module in modules:
        module.set_reshard_after_forward(False, recurse=False)
        module.unshard()
    yield
    for module in modules:
        module.reshard()
        module.set_reshard_after_forward(True, recurse=False)


def whole(tensor: Tensor) -> Tensor:
    """A tensor that may be divided, made whole in every rank."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def part(tensor: Tensor) -> Tensor:
    """The part that this rank has of a tensor; all of it, if the tensor is not divided."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole_weights(model: nn.Module) -> dict[str, Any]:
    """All weights by name, made whole, in the computer's memory.

    Every rank must call this; only rank 0 gets the weights, and the others get an empty dictionary.

    A tensor that has two names, such as tied embeddings, is one tensor here too, so that it is saved once.
    """
    named: dict[str, Tensor] = model.state_dict(keep_vars=True)
    distinct = {id(tensor): tensor.detach() for tensor in named.values()}
    gathered: dict[int, Tensor] = {}
    for key, tensor in distinct.items():
        of_all = whole(tensor)
        if ranks.rank() == 0:
            gathered[key] = of_all.cpu()
    return {name: gathered[id(tensor)] for name, tensor in named.items() if id(tensor) in gathered}


def load_weights(model: nn.Module, checkpoint: Path) -> None:
    """Load the weights that a checkpoint holds whole, in one file or in several."""
    for file in sorted(checkpoint.glob("model*.safetensors")):
        load_whole(model, load_file(file))


def load_whole(model: nn.Module, weights: dict[str, Any]) -> None:
    """Load whole weights by name, all or some of a model's; each rank keeps its part."""
    set_model_state_dict(model, weights, options=StateDictOptions(full_state_dict=True, strict=False))


def save_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, checkpoint: Path) -> None:
    """Save the optimizer's state into a checkpoint; every rank writes its part."""
    dcp.save({OPTIMIZER: get_optimizer_state_dict(model, optimizer)}, checkpoint_id=checkpoint / OPTIMIZER)


def load_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, checkpoint: Path) -> None:
    """Load what `save_optimizer` saved."""
    state = {OPTIMIZER: get_optimizer_state_dict(model, optimizer)}
    dcp.load(state, checkpoint_id=checkpoint / OPTIMIZER)
    set_optimizer_state_dict(model, optimizer, state[OPTIMIZER])
