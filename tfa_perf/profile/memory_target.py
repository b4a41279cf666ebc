"""In the profiled process: memray for the host's memory, torch's own counters for the GPU's."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from typing import Any

from tfa_perf.profile.phases import OTHER, Recorder, phase

_MIB = 1 << 20


def tracker(path: str) -> AbstractContextManager[Any]:
    """What writes the allocations alive at the peak of its block to `path`."""
    import memray

    # Summed as the program goes: a file of every allocation of a long run would fill a disk.
    return memray.Tracker(path, file_format=memray.FileFormat.AGGREGATED_ALLOCATIONS)


class GpuMemory:
    """The most that torch has allocated on the current GPU, at the boundaries of phases.

    Nothing is reset: a program may read the same counters. So a peak within a phase is seen only
    where it is the highest of the run so far.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._open: list[phase] = []
        self._peak = 0
        self._most: dict[str, int] = {}
        recorder.observe(self)

    def enter(self, span: phase) -> None:
        self._read()
        self._open.append(span)
        self._read()

    def leave(self, span: phase) -> None:
        self._read()
        if span in self._open:
            self._open.remove(span)

    def found(self) -> dict[str, float]:
        """MiB of each phase; empty where CUDA was not used."""
        self._read()
        return {name: size / _MIB for name, size in self._most.items()}

    def _read(self) -> None:
        torch = sys.modules.get("torch")
        if torch is None or not torch.cuda.is_initialized():
            return
        try:
            held = torch.cuda.memory_allocated()
            peak = torch.cuda.max_memory_allocated()
        except Exception:
            # A device in error answers nothing, which is the program's to say.
            return
        if peak > self._peak:
            self._peak = held = peak
        name = self._open[-1].name if self._open else OTHER
        self._most[name] = max(self._most.get(name, 0), held)
