"""An imitation of CUDA graphs on a CPU: it records PyTorch's operations, and repeats them on the same tensors.

Like a graph, it repeats no Python: what a first run computed on the host, such as the decision of an `if`, stays as it
was, inputs are read where they were, and an operation that waits for the device is refused.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

WAITING = ("_local_scalar_dense", "nonzero", "equal", "is_nonzero", "masked_select", "_unique2")


class Tape(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if operation.overloadpacket.__name__ in WAITING:
            raise RuntimeError(f"{operation}: operation not permitted when stream is capturing")
        result = operation(*args, **(kwargs or {}))
        self.operations.append((operation, args, kwargs or {}, result))
        return result

    @torch.no_grad()
    @torch.autocast("cpu", enabled=False)  # what autocast did is among the operations
    def replay(self) -> None:
        for operation, args, kwargs, result in self.operations:
            new = operation(*args, **kwargs)
            for old, repeated in zip(tree_leaves(result), tree_leaves(new), strict=True):
                # A view, or the result of an operation in place, lies where it was.
                if isinstance(old, torch.Tensor) and old.data_ptr() != repeated.data_ptr():
                    old.copy_(repeated)


def recorded(work: Callable[[], None], pool: Any) -> Callable[[], None]:
    """As `graphed.recorded` on a GPU: `work` is called once, and what it copies is there after a replay only."""
    tape = Tape()
    with tape:
        work()
    for operation, args, _, _ in tape.operations:
        if operation is torch.ops.aten.copy_.default and args[0].is_floating_point():
            args[0].data.fill_(torch.nan)
    return tape.replay
