"""Failures to write a file, as one line that names it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["naming"]


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """An OSError in here, that of a full disk say, comes out with a message that names ``path``.

    So does what torch makes of one when it closes a file that took only part of a checkpoint.
    """
    try:
        yield
        return
    except (OSError, RuntimeError) as error:
        first = error if isinstance(error, OSError) else error.__context__
        if not isinstance(first, OSError):
            raise
    reason = first.strerror or first
    raise OSError(f"{path}: cannot be written ({reason}); free space or choose another folder")
