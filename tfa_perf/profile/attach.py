"""Stacks of a process that is already running, through py-spy."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tfa_perf.profile.laps import OTHER
from tfa_perf.profile.pyspy import RATE, PySpy, find_pyspy, lost
from tfa_perf.profile.samples import MAIN, read_samples
from tfa_perf.profile.stacks import Stack, root_at_phases

_FLUSH_LIMIT_S = 30.0


class AttachError(RuntimeError):
    """A process whose stacks cannot be read: one line that says why and what to do."""


def _command(pid: int) -> list[str]:
    try:
        text = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return [f"process {pid}"]
    return text.rstrip("\0").split("\0")[1:] or [f"process {pid}"]


def _check_exists(pid: int) -> None:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        raise AttachError(
            f"--pid {pid}: there is no such process; `pgrep -af python` lists those that run"
        ) from None
    except PermissionError:
        pass  # it exists; py-spy says whether it may look


def _advice(pid: int, problem: str) -> str:
    lowered = problem.lower()
    if any(words in lowered for words in ("permission", "not permitted", "os error 1)")):
        return (
            f"--pid {pid}: not allowed to read its memory ({problem}); run this with sudo, set "
            "kernel.yama.ptrace_scope to 0, or give the container --cap-add SYS_PTRACE"
        )
    if "python" in lowered or "find" in lowered:
        return f"--pid {pid}: that process does not look like Python ({problem})"
    return f"--pid {pid}: {problem}"


@contextmanager
def _interrupt_sets(event: threading.Event) -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda *_: event.set()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def sample_running(
    pid: int, *, rate: int = RATE, seconds: float | None = None
) -> tuple[list[str], list[Stack], str, float]:
    """Sample a running Python process for `seconds`, or until it ends or Ctrl-C.

    Returns its command line, the stacks, what was done in words, and for how many seconds. The
    process was started without hooks, so no phase is timed: a stack's first frame is the phase that
    its source tells, else ``thread: main`` or another thread.

    Raises
    ------
    AttachError : no such process, not Python, not allowed to look, or py-spy is missing.
    """
    _check_exists(pid)
    program = find_pyspy()
    if program is None:
        raise AttachError("--pid needs py-spy, which is not installed (pip install py-spy)")
    command = _command(pid)
    with tempfile.TemporaryDirectory(prefix="tfa-perf-profile-") as folder:
        out, log = Path(folder, "stacks.json"), Path(folder, "py-spy.log")
        stop = threading.Event()
        with _interrupt_sets(stop):
            spy = PySpy(program, pid, rate, out, log, children=True)
            try:
                problem = spy.wait_attached(None)
                if problem is not None:
                    raise AttachError(_advice(pid, problem))
                started = time.monotonic()
                while not (stop.is_set() or spy.ended()):
                    left = 0.2 if seconds is None else started + seconds - time.monotonic()
                    if left <= 0:
                        break
                    stop.wait(min(left, 0.2))
                wall_s = time.monotonic() - started
            finally:
                spy.stop(_FLUSH_LIMIT_S)
        try:
            samples = read_samples(out, pid)
        except (OSError, ValueError) as error:
            raise AttachError(f"--pid {pid}: py-spy left no usable stacks ({error})") from error
        reason = f"attached to process {pid}, which runs without hooks: stacks alone{lost(spy)}"
    return command, [_at_thread(stack) for stack in root_at_phases(samples)], reason, wall_s


def _at_thread(stack: Stack) -> Stack:
    if stack.thread == MAIN and stack.frames[0] == OTHER:
        return replace(stack, frames=("thread: main", *stack.frames[1:]))
    return stack
