"""Energy that a run takes, where the card counts it."""

import torch

MILLIJOULES_IN_KWH = 3.6e9


class Energy:
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
