"""Ctrl-C and SIGTERM end a command within 2 s, with the exit code that shells expect."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["LIMIT_S", "NUMBERS", "Interrupted", "exit_code", "interruptible"]

NUMBERS = (signal.SIGINT, signal.SIGTERM)

# Whoever asks a command to stop does not wait for long.
LIMIT_S = 1.5

# Inside the context: the handlers that were there before, by signal, and the signals since.
_before: dict[int, Any] = {}
_received: list[int] = []


class Interrupted(KeyboardInterrupt):
    """A signal has ended the run; ``number`` is the signal's."""

    def __init__(self, number: int, message: str = "interrupted") -> None:
        super().__init__(message)
        self.number = number


def exit_code(error: KeyboardInterrupt) -> int:
    """130 after Ctrl-C, 143 after SIGTERM."""
    return 128 + (error.number if isinstance(error, Interrupted) else signal.SIGINT)


@contextmanager
def interruptible() -> Iterator[list[int]]:
    """Inside this context Ctrl-C and SIGTERM raise `Interrupted` in the main thread.

    Yields the list of the signals that have come. Python runs a signal's handler between two
    instructions of its own; a main thread that stays in a compilation or a kernel for 1.5 s more
    ends with the process. A nested context with handlers of its own decides for itself. Does
    nothing in threads other than the main one, nor for a signal that is ignored already, as Ctrl-C
    is in a shell's background job.
    """
    if threading.current_thread() is not threading.main_thread() or _before:
        yield _received
        return
    _received.clear()
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    for number in NUMBERS:
        if signal.getsignal(number) not in (signal.SIG_IGN, None):
            _before[number] = signal.signal(number, _raise)
    wakeup = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    over = threading.Event()
    threading.Thread(target=_cut_off, args=(reader, over), daemon=True).start()
    try:
        yield _received
    except Exception as error:
        # An import that a signal broke off fails in ways of its own.
        if _received:
            raise Interrupted(_received[0]) from error
        raise
    finally:
        over.set()
        _restore(wakeup)
        # Ends the thread.
        writer.close()


def _raise(number: int, frame: FrameType | None) -> None:
    _received.append(number)
    # A last search for cycles among torch's modules would take a second of the exit.
    atexit.register(gc.freeze)
    raise Interrupted(number)


def _cut_off(reader: socket.socket, over: threading.Event) -> None:
    with reader:
        while received := reader.recv(1):
            number = received[0]
            if signal.getsignal(number) is _raise and not over.wait(LIMIT_S):
                os.write(2, b"tfa-perf: interrupted\n")
                os._exit(128 + number)


def _restore(wakeup: int) -> None:
    signal.set_wakeup_fd(wakeup)
    for number, handler in _before.items():
        if signal.getsignal(number) is _raise:
            signal.signal(number, handler)
    _before.clear()


def _after_fork() -> None:
    # A forked process shares the socket: its signals would end the one that it comes from.
    if _before:
        _restore(-1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
