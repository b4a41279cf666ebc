"""In the profiled process: memray for the host's memory, torch's own counters for the GPU's."""

from __future__ import annotations

import json
import os
import sys
from contextlib import AbstractContextManager, ExitStack
from typing import Any

from tfa_perf.profile.atomic import write_text
from tfa_perf.profile.hooks import hooked
from tfa_perf.profile.laps import OTHER
from tfa_perf.profile.phases import Recorder, recording
from tfa_perf.profile.spans import Span

_MIB = 1 << 20


class GpuMemory:
    """The most that torch has allocated on the current GPU, at the boundaries of phases.

    Nothing is reset: a program may read the same counters. So a peak within a phase is seen only
    where it is the highest of the run so far.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._open: list[Span] = []
        self._peak = 0
        self._most: dict[str, int] = {}
        recorder.observe(self)

    def enter(self, span: Span) -> None:
        self._read()
        self._open.append(span)
        self._read()

    def leave(self, span: Span) -> None:
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


class MemoryRun:
    """Phases and memory from the program's first line to the end of its exit handlers."""

    def __init__(self, options: dict[str, Any]) -> None:
        import memray

        self._pid = os.getpid()
        self._path = options["phases"]
        self._open = ExitStack()
        recorder = Recorder()
        self._open.enter_context(recording(recorder))
        self._gpu = GpuMemory(recorder)
        # Summed as the program goes: a file of every allocation of a long run would fill a disk.
        summed = memray.FileFormat.AGGREGATED_ALLOCATIONS
        #: To be entered in the frame that runs the program: memray knows no frame below it.
        self.tracker: AbstractContextManager[Any] = memray.Tracker(
            options["memory"], file_format=summed
        )
        self._open.enter_context(hooked())

    def finish(self) -> None:
        # A forked child that leaves through sys.exit runs its parent's exit handlers too.
        if os.getpid() != self._pid:
            return
        found = self._gpu.found()
        self._open.close()
        try:
            self.tracker.__exit__(None, None, None)
            write_text(self._path, json.dumps({"gpu_memory": found}))
        except OSError as error:
            print(f"tfa_perf.profile: cannot write the profile: {error}", file=sys.stderr)
