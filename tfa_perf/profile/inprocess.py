"""A stack sampler inside the profiled process, for when py-spy may not look from outside."""

from __future__ import annotations

import sys
import threading
from time import perf_counter
from types import CodeType, FrameType
from typing import Any

from tfa_perf.profile.flame import SPEEDSCOPE_SCHEMA


class StackSampler(threading.Thread):
    """Reads every thread's Python stack `rate` times a second; a sample weighs the time it took."""

    def __init__(self, rate: int) -> None:
        super().__init__(name="tfa-perf stack sampler", daemon=True)
        self._interval = 1.0 / rate
        self._halt = threading.Event()
        self._on = True
        self._frames: dict[tuple[CodeType, int], int] = {}
        self._names: dict[int, str] = {}
        self._stacks: dict[tuple[int, ...], tuple[int, ...]] = {}
        self._samples: dict[int, list[tuple[tuple[int, ...], float]]] = {}

    def run(self) -> None:
        me = threading.get_ident()
        last = perf_counter()
        while not self._halt.wait(self._interval):
            now = perf_counter()
            if not self._on:
                last = now
                continue
            for ident, frame in sys._current_frames().items():
                if ident != me:
                    self._samples.setdefault(ident, []).append((self._stack(frame), now - last))
            for thread in threading.enumerate():
                if thread.ident is not None and thread.ident not in self._names:
                    self._names[thread.ident] = f'Thread {thread.native_id} "{thread.name}"'
            last = now

    def sample(self, on: bool) -> None:
        """Stop taking samples, or go on."""
        self._on = on

    def _stack(self, frame: FrameType | None) -> tuple[int, ...]:
        indexes = []
        while frame is not None:
            key = (frame.f_code, frame.f_lineno or 0)
            indexes.append(self._frames.setdefault(key, len(self._frames)))
            frame = frame.f_back
        stack = tuple(reversed(indexes))
        return self._stacks.setdefault(stack, stack)

    def stop(self) -> dict[str, Any]:
        """End sampling and return the samples as a speedscope document, as py-spy would."""
        self._halt.set()
        self.join(timeout=5)
        profiles = [
            {
                "type": "sampled",
                "name": self._names.get(ident, f"Thread {ident}"),
                "unit": "seconds",
                "startValue": 0.0,
                "endValue": sum(weight for _, weight in samples),
                "samples": [stack for stack, _ in samples],
                "weights": [weight for _, weight in samples],
            }
            for ident, samples in self._samples.items()
        ]
        frames = [
            {
                "name": getattr(code, "co_qualname", code.co_name),
                "file": code.co_filename,
                "line": line,
            }
            for code, line in self._frames
        ]
        return {"$schema": SPEEDSCOPE_SCHEMA, "shared": {"frames": frames}, "profiles": profiles}
