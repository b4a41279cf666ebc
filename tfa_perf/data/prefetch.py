"""Items of a generator made ahead by a thread that never outlives whoever wants them."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Generator
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

__all__ = ["Prefetch", "made_ahead"]

T = TypeVar("T")

_JOIN_SECONDS = 10.0
# What handing an item from thread to thread costs, generously. A consumer that comes back sooner
# gains nothing from a thread, and makes its items itself.
_HANDOVER_SECONDS = 1e-4

_ahead = threading.local()


def made_ahead() -> bool:
    """Whether the calling thread makes items ahead for a consumer that is at work elsewhere."""
    return getattr(_ahead, "now", False)


class _Channel:
    """What the thread and its consumer share; it does not know the consumer.

    Both queues may be used from anywhere, from a finalizer in the middle of a ``get`` included.
    """

    def __init__(self) -> None:
        self.wanted: SimpleQueue[None] = SimpleQueue()
        self.made: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
        self.stopped = False


class Prefetch(Generic[T]):
    """Iterator over ``items`` that a daemon thread makes, up to ``depth`` ahead.

    The thread starts once the consumer has been busy between two items, twice in a row; before
    that, and whenever the thread owes nothing, the consumer makes its items itself. So only one
    of the two ever runs the generator. What it raises is raised here, with the frames of the
    thread in its traceback. The thread ends with the items, with `close`, when nobody holds this
    object any more, and before the interpreter exits. Not for several consumers at once.
    """

    def __init__(self, items: Generator[T, None, None], depth: int, name: str) -> None:
        self._items, self._depth, self._name = items, depth, name
        self._pid = os.getpid()
        self._channel: _Channel | None = None
        self._stop: Callable[[], bool | None] | None = None
        self._owed = 0
        self._closed = False
        self._returned, self._away = time.perf_counter(), 0.0

    def __iter__(self) -> Prefetch[T]:
        return self

    def __next__(self) -> T:
        if os.getpid() != self._pid:
            raise RuntimeError("a pass that began before a fork goes on in the parent alone")
        if self._closed:
            raise StopIteration
        away = time.perf_counter() - self._returned
        try:
            item = self._take() if self._owed else next(self._items)
        except BaseException:
            self.close()
            raise
        # Twice, because a single pause may be the system's.
        if self._depth and min(away, self._away) > _HANDOVER_SECONDS:
            self._ask()
        self._away = away
        self._returned = time.perf_counter()
        return item

    def close(self) -> None:
        """Stop the thread and wait for it; what it has made is dropped."""
        self._closed = True
        ended = self._stop is None or self._stop()
        if ended and self._pid == os.getpid():
            self._items.close()

    def _ask(self) -> None:
        if self._channel is None:
            self._channel = _Channel()
            thread = threading.Thread(
                target=_produce, args=(self._items, self._channel), name=self._name, daemon=True
            )
            # It also runs at exit, before daemon threads are cut off wherever they are.
            self._stop = weakref.finalize(self, _stop, self._channel, thread, self._pid)
            thread.start()
        for _ in range(self._depth - self._owed):
            self._channel.wanted.put(None)
        self._owed = self._depth

    def _take(self) -> T:
        assert self._channel is not None
        item, error = self._channel.made.get()
        self._owed -= 1
        if error is None:
            return item
        try:
            raise error
        finally:
            # The traceback holds this frame: without this the two would keep each other.
            del error


def _produce(items: Generator[Any, None, None], channel: _Channel) -> None:
    _ahead.now = True
    while True:
        channel.wanted.get()
        if channel.stopped:
            return
        try:
            # No name for the item: this frame would hold it until the next one is made.
            channel.made.put((next(items), None))
        except BaseException as error:
            channel.made.put((None, error))
            return


def _stop(channel: _Channel, thread: threading.Thread, pid: int) -> bool:
    """Whether the thread has ended."""
    if os.getpid() != pid:
        # In a forked child: the thread is the parent's.
        return False
    channel.stopped = True
    channel.wanted.put(None)
    # A collection inside the thread itself may finalize the consumer.
    if thread is threading.current_thread():
        return False
    thread.join(_JOIN_SECONDS)
    while not channel.made.empty():
        channel.made.get()
    return not thread.is_alive()
