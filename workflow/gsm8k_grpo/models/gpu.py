"""The GPU: require one, limit how much of its memory a run takes, and measure peak memory and energy."""

import os
import resource
import threading

import torch

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.files import PipelineError

CONTEXT_GIB = 0.6  # CUDA's context, kernels and libraries, which PyTorch does not allocate
POLL_SECONDS = 0.05  # PyTorch keeps freed memory reserved, so polling also sees short peaks
MILLIJOULES_IN_KWH = 3.6e9


def require_gpu(params: Params) -> None:
    """Require a GPU if the configuration needs one.

    Raises:
        PipelineError: if there is none, naming the first key that needs it.
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
            raise PipelineError(f"{key} = {value}: needs a CUDA GPU, and PyTorch finds none; recipe tiny needs none")


def limit_memory(params: Params) -> None:
    """Make PyTorch, and vLLM in this process, fail rather than take more than `vram_gib` of the GPU's memory.

    Call this before anything else uses the GPU.
    """
    if params.engine != "vllm":
        # Tensors of changing sizes fragment the memory; expandable segments reduce that.  With engine vllm they are
        # off, because the memory pool of vLLM's sleep mode does not support them.
        os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    if params.vram_gib is None or not torch.cuda.is_available():
        return
    # PyTorch still counts memory that a sleeping vLLM has released, so without CONTEXT_GIB its limit is strict enough.
    sleeps = params.engine == "vllm" and params.vllm is not None and params.vllm.sleep
    allocated = params.vram_gib - (0 if sleeps else CONTEXT_GIB)
    total = torch.cuda.get_device_properties().total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, allocated * 2**30 / total))


class PeakMemory:
    """Measures the peak memory in GiB within its block: of the whole GPU, or of this process if there is no GPU."""

    def __init__(self) -> None:
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
        while not self._closed.wait(POLL_SECONDS):
            free, total = torch.cuda.mem_get_info()
            self.gib = max(self.gib, (total - free) / 2**30)


class EnergyMeter:
    """Measures the energy that the GPU takes from now on, by NVML's counter, which Volta and later GPUs have.

    The counter is the whole GPU's, so it includes whatever else runs there.
    """

    def __init__(self) -> None:
        self._start = _millijoules()

    def read(self) -> float | None:
        """The energy so far in kWh; None without a GPU, or if it has no counter."""
        now = _millijoules()
        return None if self._start is None or now is None else (now - self._start) / MILLIJOULES_IN_KWH


def _millijoules() -> int | None:
    """The counter: millijoules since the driver was loaded."""
    if not torch.cuda.is_available():
        return None
    import pynvml  # only in envs/cuda.txt

    pynvml.nvmlInit()
    device = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties().uuid}")
    try:
        return pynvml.nvmlDeviceGetTotalEnergyConsumption(device)
    except pynvml.NVMLError_NotSupported:
        return None
