"""What the ranks of one training do together: sums over all ranks, gradients, files, and the decision to stop.

Each rank computes its part of every optimizer step on its own copy of the weights.  Gradients are averaged once a step,
after the last batch, so that all copies stay the same.  In a process that trains alone, which is the only rank, these
functions return at once.
"""

from collections.abc import Iterable
from typing import TypeVar

import torch
import torch.distributed as dist
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather, reduce
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from gsm8k_grpo.memory.weights import BUCKET
from gsm8k_grpo.runtime import ranks

Value = TypeVar("Value")


def total(value: float) -> float:
    """The sum of a number over all ranks."""
    return _reduced(value, "sum")


def mean(value: float) -> float:
    """The mean of a number over all ranks."""
    return _reduced(value, "mean")


def maximum(value: float) -> float:
    """The largest value that a number has in any rank."""
    return value if ranks.count() == 1 else float(gather(_on_device(value)).max())


def total_of(values: Tensor) -> Tensor:
    """The elementwise sum of a tensor over all ranks."""
    return reduce(values, "sum") if ranks.count() > 1 else values


def anywhere(condition: bool) -> bool:
    """Whether a condition holds in any rank."""
    return total(float(condition)) > 0


def of_first(value: Value) -> Value:
    """The value of rank 0, in every rank."""
    return broadcast_object_list([value])[0] if ranks.count() > 1 else value


def wait() -> None:
    """Wait until every rank is here."""
    if ranks.count() > 1:
        PartialState().wait_for_everyone()


def average_gradients(weights: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its mean over all ranks.

    DistributedDataParallel would do so through the model's `forward`, which packed batches do not call, and would wait
    for gradients of weights that no group of a rank's batch uses.  Where only some ranks have a gradient for a weight,
    it is zero in the others.  A weight without a gradient in any rank keeps none, as in a process that trains alone.
    """
    if ranks.count() == 1:
        return
    trained = [weight for weight in weights if weight.requires_grad]
    device = trained[0].device
    present = total_of(torch.tensor([weight.grad is not None for weight in trained], dtype=torch.float, device=device))
    used = [weight for weight, times in zip(trained, present.tolist(), strict=True) if times]
    for weight in used:
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
    for bucket in _buckets([weight.grad for weight in used if weight.grad is not None]):
        numbers = parameters_to_vector(bucket)
        dist.all_reduce(numbers)
        numbers /= ranks.count()
        vector_to_parameters(numbers, bucket)


def _buckets(tensors: list[Tensor]) -> Iterable[list[Tensor]]:
    """The tensors in order, in lists of one type: each has at most `BUCKET` numbers, or is a single larger tensor."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        size = sum(one.numel() for one in bucket) + tensor.numel()
        if bucket and (size > BUCKET or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket


def _reduced(value: float, how: str) -> float:
    return value if ranks.count() == 1 else float(reduce(_on_device(value), how))


def _on_device(value: float) -> Tensor:
    return torch.tensor([value], dtype=torch.float64, device=PartialState().device)
