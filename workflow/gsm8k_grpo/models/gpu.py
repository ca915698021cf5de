"""The GPU: requiring one, limiting the memory that a run may take of it, and measuring peak memory and energy."""

import os
import resource
import threading

import torch

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.files import PipelineError

CONTEXT_GIB = 0.6  # of CUDA's context, kernels and libraries, which PyTorch doesn't allocate
LOOK_SECONDS = 0.05  # between two looks; PyTorch keeps what it took, so that a short peak is still seen
MILLIJOULES_IN_KWH = 3.6e9


def require_gpu(params: Params) -> None:
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


def limit_memory(params: Params) -> None:
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


class PeakMemory:
    """The most memory in use in GiB while this is open: on a card of the whole card, else of this process."""

    def __init__(self):
        self.gib = 0.0
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "PeakMemory":
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
        while not self._closed.wait(LOOK_SECONDS):
            free, total = torch.cuda.mem_get_info()
            self.gib = max(self.gib, (total - free) / 2**30)


class EnergyMeter:
    """The card's energy since this was made, in kWh: NVML's counter, which Volta and later cards have.

    It is of the whole card, so that what else runs there is in it.
    """

    def __init__(self):
        self._began = _counter()

    def read(self) -> float | None:
        """None where there is no card, or none that counts."""
        return None if self._began is None else (_counter() - self._began) / MILLIJOULES_IN_KWH


def _counter() -> int | None:
    """Millijoules since the driver was loaded."""
    if not torch.cuda.is_available():
        return None
    import pynvml  # of envs/cuda.txt alone

    pynvml.nvmlInit()
    card = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties().uuid}")
    try:
        return pynvml.nvmlDeviceGetTotalEnergyConsumption(card)
    except pynvml.NVMLError_NotSupported:
        return None
