"""One writer of a store at a time, on one machine and where the file system has locks beyond it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from tfa_perf.data.store_meta import StoreError

__all__ = ["only_writer"]

_log = logging.getLogger(__name__)

_PATIENCE_S = 1.0


@contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Inside it no other writer of the store at `path` is; may be entered again by one thread.

    However a process ends, the system lets go of its lock. The lock's file is never removed:
    somebody may wait for it already, and would then hold another lock than whoever comes next.
    """
    lock = FileLock(path / "lock", is_singleton=True)
    try:
        path.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=_PATIENCE_S)
        except Timeout:
            _log.warning("%s: another process is building this store, waiting for it", path)
            lock.acquire()
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error}; choose another folder") from error
    try:
        yield
    finally:
        lock.release()
