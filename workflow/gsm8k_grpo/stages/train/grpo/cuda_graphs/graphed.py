"""The decoder's forward and backward pass of an update as CUDA graphs.

In the update of a small model, the GPU waits for the host, which launches thousands of kernels one by one.  A graph
needs a single launch.  Batches are padded to a few sizes (`buckets`), and each size has one graph of the forward pass
and one of the backward pass.

The first batch of a size is computed without a graph.  This pass compiles and loads what can't be compiled or loaded
during a capture, and a size that occurs once is not worth a graph.  The second batch captures both graphs, and from
then on they are replayed.  `torch.cuda.make_graphed_callables` does the same for one size, but it keeps the gradients
of each size in memory, and the next replay overwrites the gradients that it returned, which is wrong where gradients
are accumulated.

The first graphs are replayed once with the batch that they were captured with, and refused if states and gradients are
not those of a pass without graphs.

Without a GPU the same is computed without graphs.
"""

import gc
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import PreTrainedModel

from gsm8k_grpo.files import PipelineError, first_line
from gsm8k_grpo.stages.train.grpo.cuda_graphs.buckets import Bucket, bucket_of, pad
from gsm8k_grpo.stages.train.grpo.packing import Packed

INPUTS = ("ids", "positions", "group", "completion", "keys", "query_starts", "key_starts")  # what a decoder reads

# The largest relative difference that the order of additions explains, with a margin: on an H100 it was 0.02 at most
# (tests/gpu/test_gpu_update.py).
TOLERANCE = 0.05

Work = Callable[[], None]


class Workspace:
    """The memory that the graphs of all sizes share, since only one of them is in use at a time.

    The intermediate tensors of all graphs lie in one pool, whose memory each capture reuses.  The results lie outside.

    Attributes:
        weights: the decoder's trained weights.
        gradients: a tensor for the gradient of each weight.
        states, gradient: (1, tokens, hidden) for the decoder's states and their gradient, for the largest size.
        pool: the memory pool of the graphs; None without a GPU.
        waiting: whether a forward pass waits for its backward pass.
    """

    def __init__(self, decoder: nn.Module, states: Tensor):
        self.weights = [weight for weight in decoder.parameters() if weight.requires_grad]
        self.gradients = [torch.empty_like(weight, requires_grad=False) for weight in self.weights]
        self.states, self.gradient = torch.empty_like(states), torch.empty_like(states)
        self.pool = torch.cuda.graph_pool_handle() if states.is_cuda else None
        self.waiting = False


@dataclass(frozen=True)
class Pass:
    """The decoder's forward pass, with and without a graph.

    Attributes:
        decoder: the decoder.
        autocast: gives a context with its precision, without a cache of cast weights: a graph would keep using those
            that were cast when it was captured.
    """

    decoder: PreTrainedModel
    autocast: Callable[[], AbstractContextManager[Any]]

    def states(self, packed: Packed) -> Tensor:
        """(1, tokens, hidden) states of a batch, which carry a gradient."""
        with torch.enable_grad(), self.autocast():
            states: Tensor = self.decoder(**packed.inputs(self.decoder.config)).last_hidden_state
        return states


class GraphedDecoder:
    """Computes the states of packed batches, with the gradient of the decoder's weights, by replayed graphs.

    Args:
        decoder: the decoder; its weights may be changed in place at any time, but not be replaced by other tensors.
        autocast: see `Pass`.
        sequences: the largest number of sequences in a batch.
    """

    def __init__(self, decoder: PreTrainedModel, autocast: Callable[[], AbstractContextManager[Any]], sequences: int):
        self._pass, self._sequences = Pass(decoder, autocast), sequences
        self._seen: set[Bucket] = set()
        self._graphs: dict[Bucket, UpdateGraphs] = {}
        self._workspace: Workspace | None = None
        self._checked = False

    def states(self, packed: Packed) -> Tensor:
        """(tokens, hidden) states of a batch; those of its own tokens come first, then those of the padding.

        The backward pass must come before the next call.

        Raises:
            RuntimeError: if the backward pass of the previous call is missing.
            PipelineError: if the decoder can't be captured, or its graphs are not right.
        """
        bucket = bucket_of(packed, self._sequences)
        padded = pad(packed, bucket)
        workspace = self._workspace
        if workspace is None or bucket not in self._seen:
            return self._first(bucket, padded)[0]
        if bucket not in self._graphs:
            graphs = UpdateGraphs(self._pass, padded, workspace)
            if not self._checked:
                graphs.require_right()
                self._checked = True
            self._graphs[bucket] = graphs
        return self._graphs[bucket].replayed(padded)[0]

    def _first(self, bucket: Bucket, padded: Packed) -> Tensor:
        self._seen.add(bucket)
        states = self._pass.states(padded)
        if self._workspace is None or bucket.tokens > self._workspace.states.shape[1]:
            # A larger size gets a new pool.  In a pool that grows, the graphs of small sizes leave gaps that are too
            # small for those of large ones.
            self._graphs.clear()
            self._workspace = Workspace(self._pass.decoder, states.detach())
        return states


class UpdateGraphs:
    """The forward and the backward pass of one size.

    Args:
        computation: the decoder's forward pass.
        padded: a batch of this size.
        workspace: where its results lie.

    Raises:
        PipelineError: if the decoder can't be captured.
    """

    def __init__(self, computation: Pass, padded: Packed, workspace: Workspace):
        self._pass, self.workspace = computation, workspace
        self._packed = _cloned(padded)
        self.states, self._gradient = (
            tensor[:, : padded.ids.shape[1]] for tensor in (workspace.states, workspace.gradient)
        )
        self._output: Tensor | None = None  # of a forward pass that waits for its backward pass
        self._used: list[bool] = []  # whether each weight has a gradient
        # Remains of earlier backward passes hold nodes that belong to another stream, so that the capture would fail.
        gc.collect()
        try:
            self._forward = recorded(self._compute, workspace.pool)
            self._backward = recorded(self._differentiate, workspace.pool)
        except RuntimeError as error:
            raise _not_captured(computation.decoder, error) from error

    def require_right(self) -> None:
        """Require that replays give the states and gradients of a pass without graphs.

        Raises:
            PipelineError: if they do not.
        """
        states = self._pass.states(self._packed)
        factors = states.detach()  # a loss with these factors of the states depends on all of them
        expected = [factors, *torch.autograd.grad(states, self.workspace.weights, factors, allow_unused=True)]
        found = [self.forward(), *self.backward(factors)]
        pairs = [
            (one, other) for one, other in zip(found, expected, strict=True) if one is not None and other is not None
        ]
        error = torch.tensor([_apart(pairs[:1]), _apart(pairs[1:])]).max().item()  # NaN if one is, unlike Python's max
        if not error <= TOLERANCE:
            raise _refusal(
                self._pass.decoder,
                f"is not right as graphs: states or gradients are {error:.2g} from those without graphs, relative to "
                f"their norm, and rounding explains {TOLERANCE}",
            )

    def replayed(self, padded: Packed) -> Tensor:
        """(1, tokens, hidden) states of a batch of this size, which the next batch overwrites."""
        if self.workspace.waiting:
            raise RuntimeError("a replayed forward pass needs its backward pass before the next forward pass")
        for name in INPUTS:
            getattr(self._packed, name).copy_(getattr(padded, name))
        states: Tensor = Replay.apply(self, *self.workspace.weights)
        return states

    def forward(self) -> Tensor:
        self.workspace.waiting = True
        self._forward()
        return self.states.detach()

    def backward(self, gradient: Tensor) -> list[Tensor | None]:
        """The gradients of the weights, as copies, since the next replay overwrites them."""
        self._gradient.copy_(gradient)
        self._backward()
        self.workspace.waiting = False
        gradients = zip(self.workspace.gradients, self._used, strict=True)
        return [gradient.clone() if used else None for gradient, used in gradients]

    def _compute(self) -> None:
        self._output = self._pass.states(self._packed)
        self.states.copy_(self._output.detach())

    def _differentiate(self) -> None:
        assert self._output is not None  # the forward pass comes first
        weights = self.workspace.weights
        gradients = torch.autograd.grad(self._output, weights, self._gradient, allow_unused=True)
        self._output = None
        self._used = [gradient is not None for gradient in gradients]
        for result, gradient in zip(self.workspace.gradients, gradients, strict=True):
            if gradient is not None:
                result.copy_(gradient)


class Replay(torch.autograd.Function):
    """The states as a function of the weights, of a batch that was copied to where the graphs of its size read it."""

    @staticmethod
    def forward(ctx: Any, graphs: UpdateGraphs, *weights: Tensor) -> Tensor:
        ctx.graphs = graphs
        return graphs.forward()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return None, *ctx.graphs.backward(gradient)


def recorded(work: Work, pool: Any) -> Work:
    """A function that repeats what `work` does on the GPU, with the same tensors; without a pool, `work` itself."""
    if pool is None:
        return work
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool):
        work()
    return graph.replay


def _cloned(padded: Packed) -> Packed:
    values = {field.name: getattr(padded, field.name) for field in fields(padded)}
    return Packed(**values | {name: values[name].clone() for name in INPUTS})


def _apart(pairs: list[tuple[Tensor, Tensor]]) -> float:
    """The norm of the differences of pairs of tensors, relative to that of the second ones."""
    difference, norm = (
        torch.stack([tensor.float().norm() for tensor in tensors]).norm()
        for tensors in ([one - other for one, other in pairs], [other for _, other in pairs])
    )
    return (difference / norm).item()


def _not_captured(decoder: nn.Module, error: RuntimeError) -> Exception:
    """The error that says why a capture failed; an out-of-memory error is returned as it is."""
    cause = error.__context__ or error  # ending a failed capture raises another error on top
    if isinstance(cause, torch.OutOfMemoryError):
        return cause
    return _refusal(decoder, f"can't be captured ({first_line(cause)})")


def _refusal(decoder: nn.Module, reason: str) -> PipelineError:
    return PipelineError(
        f"train.cuda_graphs = true: the update of {type(decoder).__name__} {reason}; set cuda_graphs: false"
    )
