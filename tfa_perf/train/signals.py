"""Ctrl-C and SIGTERM while a model trains: the step under way ends, then the run."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from tfa_perf.interrupts import LIMIT_S, NUMBERS, Interrupted

__all__ = ["Signals"]


class Signals:
    """Inside this context the first signal is noted in ``received``; it does not break a step.

    A second one raises `Interrupted` at once, as does a step that goes on for too long. Does
    nothing in threads other than the main one, which receive no signals, or with ``heed=False``.
    """

    def __init__(self, *, heed: bool = True) -> None:
        self.received = 0
        self._heed = heed
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if self._heed and threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in NUMBERS}
            if hasattr(signal, "setitimer"):
                self._before[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._cut_off)
        return self

    def __exit__(self, *raised: object) -> None:
        if signal.SIGALRM in self._before:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            raise Interrupted(number)
        self.received = number
        if signal.SIGALRM in self._before:
            signal.setitimer(signal.ITIMER_REAL, LIMIT_S)

    def _cut_off(self, number: int, frame: FrameType | None) -> None:
        raise Interrupted(self.received)
