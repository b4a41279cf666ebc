"""CUDA graphs that hold a whole optimizer step: their captures, and steps told by their replays."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any
from weakref import WeakSet

from tfa_perf.profile.gpu import CAPTURES
from tfa_perf.profile.phases import recording_main_thread
from tfa_perf.profile.wrappers import graph_replay

Function = Callable[..., Any]


class GraphSteps:
    """Wrappers for the methods of ``torch.cuda.CUDAGraph``.

    The optimizer's ``step`` runs once, under capture, and never again: from then on a replay of
    that graph is what ends a step.
    """

    def __init__(self, on_step: Callable[[], None] | None) -> None:
        self._on_step = on_step
        self._capturing: list[Any] = []
        self._with_step: WeakSet[Any] = WeakSet()

    def capture_begin(self, original: Function) -> Function:
        @wraps(original)
        def capture_begin(graph: Any, *args: Any, **kwargs: Any) -> Any:
            CAPTURES.running += 1
            try:
                result = original(graph, *args, **kwargs)
            except BaseException:
                CAPTURES.running -= 1
                raise
            self._with_step.discard(graph)
            self._capturing.append(graph)
            return result

        return capture_begin

    def capture_end(self, original: Function) -> Function:
        @wraps(original)
        def capture_end(graph: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                return original(graph, *args, **kwargs)
            finally:
                if graph in self._capturing:
                    self._capturing.remove(graph)
                    CAPTURES.running -= 1

        return capture_end

    def captured(self) -> bool:
        """Tell that an optimizer step has run; True when it was only captured, not done."""
        if not self._capturing:
            return False
        self._with_step.add(self._capturing[-1])
        return True

    def replay(self, original: Function) -> Function:
        timed = graph_replay(original)

        @wraps(original)
        def replay(graph: Any, *args: Any, **kwargs: Any) -> Any:
            result = timed(graph, *args, **kwargs)
            if graph in self._with_step and recording_main_thread() and self._on_step is not None:
                self._on_step()
            return result

        return replay
