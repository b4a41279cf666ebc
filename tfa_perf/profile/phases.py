"""Named spans of a training step, and their exclusive time per thread.

A span costs two clock reads while a recorder is active and one global read when none is.
"""

from __future__ import annotations

import functools
import inspect
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import get_ident
from time import perf_counter_ns
from typing import TypeVar

from tfa_perf.profile.laps import OTHER, Lap
from tfa_perf.profile.spans import LapCursor, Span, SpanObserver, Spans

__all__ = [
    "Recorder",
    "in_no_phase",
    "let_hooks_in",
    "outermost",
    "phase",
    "recording",
    "recording_main_thread",
    "set_tracing",
]

F = TypeVar("F", bound=Callable[..., object])

_active: Recorder | None = None
# A recorder that keeps track of open spans but takes no time.
_suspended: Recorder | None = None


def _never() -> bool:
    return False


# Replaced by `torch.compiler.is_compiling` once torch is loaded: a compiler that traces through a
# span must see nothing but a constant.
_tracing: Callable[[], bool] = _never


class phase:
    """Time a block or a function under a name: ``with phase("augment"):`` or ``@phase("augment")``.

    Times are exclusive: a phase inside another is taken off the outer one. Stacks find the phase of
    a frame by reading the source, so give the name as a string literal. Free to leave in: without
    an active recorder nothing is recorded.
    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> phase:
        if _active is not None and not _tracing():
            _active._spans().enter(self)
        elif _suspended is not None and not _tracing():
            _suspended._spans().stack.append(self)
        return self

    def __exit__(self, *exc: object) -> None:
        if _active is not None and not _tracing():
            _active._spans().leave(self)
        elif _suspended is not None and not _tracing():
            _suspended._spans().drop(self)

    def __call__(self, function: F) -> F:
        """Decorate a plain function.

        Raises
        ------
        TypeError : `function` is a generator or a coroutine function, whose call returns before
            its body has run.
        """
        if (
            inspect.isgeneratorfunction(function)
            or inspect.iscoroutinefunction(function)
            or inspect.isasyncgenfunction(function)
        ):
            raise TypeError(
                f"@phase({self.name!r}) cannot time {function.__qualname__}: calling a generator "
                "or coroutine function does not run its body; use `with phase(...)` inside it"
            )
        name = self.name

        @functools.wraps(function)
        def timed(*args: object, **kwargs: object) -> object:
            with phase(name):
                return function(*args, **kwargs)

        return timed  # type: ignore[return-value]


class Recorder:
    """Collects spans. The thread that makes it is its main thread: laps are about that thread."""

    def __init__(self) -> None:
        self._main_id = get_ident()
        self._main = Spans(threading.current_thread().name)
        self._others: dict[int, Spans] = {}
        self._cursor = LapCursor(self._main)

    def _spans(self) -> Spans:
        ident = get_ident()
        if ident == self._main_id:
            return self._main
        spans = self._others.get(ident)
        if spans is None:
            spans = self._others[ident] = Spans(threading.current_thread().name)
        return spans

    def lap(self) -> Lap:
        """What the main thread did since the last call, or since the recorder was made.

        Raises
        ------
        RuntimeError : called on another thread.
        """
        if get_ident() != self._main_id:
            raise RuntimeError(
                f"lap() was called on thread {threading.current_thread().name!r}, but this "
                f"recorder belongs to {self._main.thread!r}; call it there"
            )
        return self._cursor.lap()

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Keep the block out of the main thread's phases and laps, wall clock included.

        That holds for phases opened and closed inside the block too. A suspended recorder takes no
        times as it is.
        """
        if _suspended is self:
            yield
            return
        spans = self._main
        spans.flush()
        observer, spans.observer = spans.observer, None
        totals, calls = dict(spans.totals), dict(spans.calls)
        try:
            yield
        finally:
            for counted, before in ((spans.totals, totals), (spans.calls, calls)):
                counted.clear()
                counted.update(before)
            spans.observer = observer
            spans.last = perf_counter_ns()

    def suspend(self) -> None:
        """Take no times until `resume`: every thread's spans cost next to nothing meanwhile."""
        global _active, _suspended
        for spans in (self._main, *list(self._others.values())):
            spans.flush()
        _active, _suspended = None, self

    def resume(self) -> None:
        """End what `suspend` began; the time between is in no lap."""
        global _active, _suspended
        for spans in (self._main, *list(self._others.values())):
            spans.resume()
        _active, _suspended = self, None

    def observe(self, observer: SpanObserver | None) -> None:
        """Tell `observer` of the main thread's spans from now on; None for nobody."""
        self._main.observer = observer

    def open_spans(self) -> tuple[Span, ...]:
        """The spans that are open on the main thread, outermost first."""
        return tuple(self._main.stack)

    def cursor(self) -> LapCursor:
        """A separate series of laps of the main thread, starting now."""
        return LapCursor(self._main)

    def other_threads(self) -> dict[str, dict[str, float]]:
        """Exclusive seconds per phase of every other thread that opened a span, by thread name."""
        threads: dict[str, dict[str, float]] = {}
        for spans in list(self._others.values()):
            phases = threads.setdefault(spans.thread, {})
            for name, ns in list(spans.totals.items()):
                if name != OTHER:
                    phases[name] = phases.get(name, 0.0) + ns / 1e9
        return threads


@contextmanager
def recording(recorder: Recorder) -> Iterator[Recorder]:
    """Make `recorder` the process's active one inside the block.

    Raises
    ------
    RuntimeError : another recorder is active.
    """
    global _active, _suspended
    if _active is not None or _suspended is not None:
        raise RuntimeError("another Recorder is active in this process; leave its block first")
    _active = recorder
    try:
        yield recorder
    finally:
        _active = _suspended = None
        recorder.observe(None)
        for spans in (recorder._main, *recorder._others.values()):
            spans.flush()
            spans.stack.clear()
            spans.top = OTHER


def in_no_phase() -> bool:
    """True when a recorder is active and this thread is inside no span, or directly in ``other``.

    A span called ``other`` hands the time of a block back, as to the closure of an optimizer.
    """
    if _tracing() or _active is None:
        return False
    return _active._spans().top == OTHER


def outermost() -> bool:
    """True where a hook is to open its span: in no phase, or directly in one that lets hooks in."""
    if _tracing() or _active is None:
        return False
    spans = _active._spans()
    if spans.top == OTHER:
        return True
    return spans.porous is not None and bool(spans.stack) and spans.stack[-1] is spans.porous


def let_hooks_in(span: Span) -> None:
    """Have hooks that run directly inside `span`, an open one of this thread, take time off it."""
    if _active is not None:
        _active._spans().porous = span


def recording_main_thread() -> bool:
    """True when a recorder is active or suspended and this is its main thread."""
    recorder = _active or _suspended
    return recorder is not None and not _tracing() and get_ident() == recorder._main_id


def set_tracing(tracing: Callable[[], bool] | None) -> None:
    """Say how to tell that a compiler is tracing through the running code; None forgets it."""
    global _tracing
    _tracing = _never if tracing is None else tracing


def _forget_in_child() -> None:
    global _active, _suspended
    _active = _suspended = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
