"""Failures to write a file, as one line that names it."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["check_writable", "naming"]


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


def check_writable(file: Path) -> None:
    """Make the folder of ``file``; OSError, naming the file, where it cannot be written.

    For before a long run, not after it.
    """
    # By trying, because what is allowed may fail all the same.
    with naming(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        with tempfile.TemporaryFile(dir=file.parent):
            pass
