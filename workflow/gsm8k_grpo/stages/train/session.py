"""session.json of each checkpoint: the time, energy and memory that the run has taken so far, over all its sessions."""

import math
import time
from pathlib import Path

from gsm8k_grpo.files import read_json, write_json
from gsm8k_grpo.models.gpu import EnergyMeter, PeakMemory
from gsm8k_grpo.records import Session
from gsm8k_grpo.runtime import ranks
from gsm8k_grpo.stages.train import parallel
from gsm8k_grpo.stages.train.resumable import ResumableMixin

FIRST: Session = {
    "seconds": 0.0, "seconds_saving": 0.0, "energy_kwh": 0.0, "peak_memory_gib": 0.0, "sessions": 0,
}  # fmt: skip


class SessionRecorder:
    """Adds the figures of this session to those of earlier sessions, which the checkpoint that it resumes from holds.

    With several ranks, the energy is that of all their GPUs, and the memory that of the GPU that needed most.
    """

    def __init__(self, trainer: ResumableMixin, checkpoint: Path | None, peak: PeakMemory):
        self.trainer, self.peak = trainer, peak
        self.began, self.energy = time.perf_counter(), EnergyMeter()
        self.before: Session = read_json(checkpoint / "session.json") if checkpoint else FIRST

    def save(self, checkpoint: Path) -> None:
        so_far: Session = {
            "seconds": round(self.before["seconds"] + time.perf_counter() - self.began, 2),
            "seconds_saving": round(self.before["seconds_saving"] + self.trainer.seconds_saving, 3),
            "energy_kwh": self._energy_kwh(),
            "peak_memory_gib": round(max(self.before["peak_memory_gib"], parallel.maximum(self.peak.read())), 3),
            "sessions": self.before["sessions"] + 1,
        }
        if ranks.rank() == 0:
            write_json(checkpoint / "session.json", so_far)

    def _energy_kwh(self) -> float | None:
        """The energy of all sessions in kWh; None if any session ran on a GPU without an energy counter."""
        own, before = self.energy.read(), self.before["energy_kwh"]
        this_session = parallel.total(math.nan if own is None else own)
        return None if math.isnan(this_session) or before is None else round(before + this_session, 6)
