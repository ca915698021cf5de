"""How close a run comes to the limits of its GPU: matrix products for the update, memory bandwidth for decoding.

Both limits are measured on the GPU that runs, not taken from a data sheet.
"""

import math
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import torch
from gsm8k_grpo.memory.shapes import Shape

REPEATS = 10
SIDE = {"cuda": 8192, "cpu": 512}  # rows and columns of the matrices
COPIED = {"cuda": 2**32, "cpu": 2**26}  # bytes
SIZE = 2  # bytes of a 16-bit number


@dataclass(frozen=True)
class Limits:
    """Of a GPU: FLOP/s of large matrix products in bfloat16, and bytes/s that copies read and write."""

    flops: float
    bandwidth: float


@dataclass(frozen=True)
class Work:
    """The work for one prompt.

    `prompt` and `completion` are lengths in tokens; if `shared`, the prompt is computed once for all its completions.
    `sequences` are generated together, at most `at_once` at a time.
    """

    shape: Shape
    prompt: float
    completion: float
    completions: int
    shared: bool
    sequences: int
    at_once: int

    def update_flop(self) -> float:
        """FLOP of an update without attention: 2 per weight and token forward, 2 backward as weights are frozen."""
        prompts = 1 if self.shared else self.completions
        return 4 * self.shape.parameters * (prompts * self.prompt + self.completions * self.completion)

    def decoded_bytes(self) -> float:
        """Bytes read in decoding: per token the weights, once per wave of sequences, and earlier keys and values."""
        waves = math.ceil(self.sequences / self.at_once)
        weights = waves * self.completion * self.shape.parameters * SIZE
        before = self.prompt + self.completion / 2
        cache = self.sequences * self.completion * before * self.shape.layers * self.shape.cache_width * SIZE
        return (weights + cache) / (self.sequences / self.completions)


def utilisation(work: Work, limits: Limits, seconds_generate: float, seconds_update: float) -> dict[str, float]:
    """The update's `mfu` and the generation's `bandwidth_share`; the seconds are those per prompt."""
    return {
        "mfu": work.update_flop() / seconds_update / limits.flops,
        "bandwidth_share": work.decoded_bytes() / seconds_generate / limits.bandwidth,
    }


def measure() -> Limits:
    """The limits of this machine's GPU, measured in a separate process so that the caller's holds no GPU memory."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(_measure).result()


def _measure() -> Limits:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    side, size = SIDE[device], COPIED[device]
    a, b = (torch.randn(side, side, device=device).bfloat16() for _ in range(2))
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return Limits(2 * side**3 / _seconds(lambda: a @ b), 2 * size / _seconds(lambda: target.copy_(source)))


def _seconds(operation: Callable[[], object]) -> float:
    """The mean of REPEATS calls, after three to warm up."""
    for _ in range(3):
        operation()
    _wait()
    began = time.perf_counter()
    for _ in range(REPEATS):
        operation()
    _wait()
    return (time.perf_counter() - began) / REPEATS


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
