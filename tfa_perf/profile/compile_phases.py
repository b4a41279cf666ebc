"""Compilers' time as phases of their own, wherever in a step they run: torch, Triton, Numba."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from types import ModuleType
from typing import Any

from tfa_perf.profile import phases
from tfa_perf.profile.phases import Recorder, phase
from tfa_perf.profile.spans import Spans

Function = Callable[..., Any]
Undo = Callable[[], None]

TORCH, TRITON, NUMBA = "torch_compile", "triton_compile", "numba_compile"


def torch_compile(original: Function) -> Function:
    """Wrap ``CompilationCallbackHandler.install_callbacks`` of ``torch._dynamo.callback``.

    Every compilation runs inside that context manager: a frame by Dynamo, a backward graph at its
    first use, the recording of CUDA graphs. The public ``on_compile_start`` is no substitute: its
    callbacks are forgotten at ``torch.compiler.reset()``, and of compilations on several threads
    they see the first alone.
    """

    @wraps(original)
    @contextmanager
    def install_callbacks(handler: Any, *args: Any, **kwargs: Any) -> Iterator[None]:
        with _compiling(TORCH), original(handler, *args, **kwargs):
            yield

    return install_callbacks


@contextmanager
def _compiling(name: str) -> Iterator[None]:
    # Not `with phase(...)`, which does nothing while torch compiles.
    recorder = phases._active
    if recorder is None:
        yield
        return
    spans, span = _waiting(recorder), phase(name)
    spans.enter(span)
    try:
        yield
    finally:
        spans.leave(span)


def _waiting(recorder: Recorder) -> Spans:
    """The spans of the thread that waits for a compilation on this one."""
    # A backward graph is compiled on a thread that autograd made, and Python knows no more of it
    # than that; the main thread stands in backward() meanwhile.
    main = recorder._main
    foreign = isinstance(threading.current_thread(), threading._DummyThread)
    return main if foreign and main.stack else recorder._spans()


def listen_to_numba(event: ModuleType) -> Undo:
    """Time Numba by its own events (``numba.core.event``); return how to stop.

    The event is that of the compiler's lock: it covers what a compilation loads from the disk cache
    and what it waits for another thread's, which ``numba:compile`` leaves out, and holds for
    ufuncs, callbacks and classes as well as for functions.
    """
    kind = "numba:compiler_lock"
    local = threading.local()

    class Compilation(event.Listener):  # type: ignore[name-defined]
        def on_start(self, _: object) -> None:
            recorder = phases._active
            spans = recorder._spans() if recorder is not None else None
            span = phase(NUMBA)
            if spans is not None:
                spans.enter(span)
            open_spans = local.__dict__.setdefault("open", [])
            open_spans.append((spans, span))

        def on_end(self, _: object) -> None:
            open_spans = local.__dict__.get("open")
            if open_spans:
                spans, span = open_spans.pop()
                if spans is not None:
                    spans.leave(span)

    listener = Compilation()
    event.register(kind, listener)
    return lambda: event.unregister(kind, listener)


def listen_to_triton(knobs: ModuleType) -> Undo:
    """Time Triton by its compilation listener (``triton.knobs``); return how to stop."""
    settings = knobs.compilation
    before = settings.listener

    def listener(**compiled: Any) -> None:
        if before is not None:
            before(**compiled)
        recorder = phases._active
        if recorder is not None:
            # It is told when a compilation is over, and how many microseconds it took.
            recorder._spans().move(TRITON, 1000 * compiled["times"].total)

    settings.listener = listener

    def stop() -> None:
        if settings.listener is listener:
            settings.listener = before

    return stop
