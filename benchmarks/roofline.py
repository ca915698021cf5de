"""How near a run comes to what its card can do: the update to matrix products, decoding to copies of memory.

Both limits are measured on the card of the run, so that no data sheet is trusted.
"""

import math
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import torch
from gsm8k_grpo.memory.shapes import Shape

REPEATS = 10
SIDE = {"cuda": 8192, "cpu": 512}  # of the matrices
COPIED = {"cuda": 2**32, "cpu": 2**26}  # bytes
SIZE = 2  # bytes of a number in 16 bit


@dataclass(frozen=True)
class Card:
    """FLOP a second of products of large matrices in bfloat16; bytes a second, read and written, of copies."""

    flops: float
    bandwidth: float


@dataclass(frozen=True)
class Work:
    """What a prompt takes: `prompt` and `completion` are tokens, `shared` says that it is computed once for all of
    its completions; `sequences` are generated together, at most `at_once` at a time."""

    shape: Shape
    prompt: float
    completion: float
    completions: int
    shared: bool
    sequences: int
    at_once: int

    def update_flop(self) -> float:
        """Forward 2 FLOP a weight and token, backward 2 more, for the weights get no gradients; attention left out."""
        prompts = 1 if self.shared else self.completions
        return 4 * self.shape.parameters * (prompts * self.prompt + self.completions * self.completion)

    def decoded_bytes(self) -> float:
        """Weights once a token for all sequences of a wave, and the keys and values of all tokens before it."""
        waves = math.ceil(self.sequences / self.at_once)
        weights = waves * self.completion * self.shape.parameters * SIZE
        before = self.prompt + self.completion / 2
        cache = self.sequences * self.completion * before * self.shape.layers * self.shape.cache_width * SIZE
        return (weights + cache) / (self.sequences / self.completions)


def utilisation(work: Work, card: Card, seconds_generate: float, seconds_update: float) -> dict[str, float]:
    """`mfu` of the update, and `bandwidth_share` of the generation; seconds are those of a prompt."""
    return {
        "mfu": work.update_flop() / seconds_update / card.flops,
        "bandwidth_share": work.decoded_bytes() / seconds_generate / card.bandwidth,
    }


def measure() -> Card:
    """The limits of the card, in a process of its own: the caller's must hold nothing of it."""
    with ProcessPoolExecutor(1, get_context("spawn")) as apart:
        return apart.submit(_measure).result()


def _measure() -> Card:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    side, size = SIDE[device], COPIED[device]
    a, b = (torch.randn(side, side, device=device).bfloat16() for _ in range(2))
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return Card(2 * side**3 / _seconds(lambda: a @ b), 2 * size / _seconds(lambda: target.copy_(source)))


def _seconds(operation) -> float:
    """Mean of the repeats, after three that warm up."""
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
