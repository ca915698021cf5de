"""The card: whether it is there where it must be, a limit to what a run may take of it, the most that was in use."""

import os
import resource
import threading

import torch

from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.params import Params

CONTEXT_GIB = 0.6  # of CUDA's context, kernels and libraries, which PyTorch doesn't allocate
SECONDS = 0.05  # between two looks; PyTorch keeps what it took, so that a short peak is still seen


def check(params: Params) -> None:
    """Refuse what needs a card where there is none.

    Raises:
        PipelineError: naming the first key that does.
    """
    if torch.cuda.is_available():
        return
    needs = {
        "backend": params.backend == "unsloth",
        "engine": params.engine == "vllm",
        "precision": params.precision != "float32",
        "quantization": params.quantization is not None,
    }
    for key, needed in needs.items():
        if needed:
            value = getattr(params, key)
            raise PipelineError(f"{key} = {value}: needs a CUDA card, and PyTorch sees none; recipe tiny does without")


def limit(params: Params) -> None:
    """Have PyTorch, and vLLM in this process, end with an error where they would take more of the card.

    To be called before anything else uses the card.
    """
    if params.engine == "transformers":
        # A cache of keys and values that grows token by token leaves pieces behind that fit nothing else; segments
        # that grow have fewer.  The pool of a vLLM that sleeps can't have them.
        os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    if params.vram_gib is None or not torch.cuda.is_available():
        return
    # What a sleeping vLLM has given back PyTorch counts as taken: its limit is the stricter one then as it is.
    sleeps = params.vllm is not None and params.vllm.sleep
    allocated = params.vram_gib - (0 if sleeps else CONTEXT_GIB)
    total = torch.cuda.get_device_properties().total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, allocated * 2**30 / total))


class Peak:
    """The most memory in use in GiB while this is open: on a card of the whole card, else of this process."""

    def __init__(self):
        self.gib = 0.0
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "Peak":
        if torch.cuda.is_available():
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join()

    def read(self) -> float:
        if torch.cuda.is_available():
            return self.gib
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

    def _watch(self) -> None:
        while not self._closed.wait(SECONDS):
            free, total = torch.cuda.mem_get_info()
            self.gib = max(self.gib, (total - free) / 2**30)
