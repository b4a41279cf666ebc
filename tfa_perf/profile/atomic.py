"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path


def write_text(path: str | Path, text: str) -> Path:
    """Replace `path` in one step: neither a reader nor a full disk ever sees half a file."""
    path = Path(path)
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()
    return path


def write_each(
    writers: Iterable[tuple[Path, Callable[[Path], Path]]],
) -> tuple[list[Path], list[str]]:
    """Write each path by its function: those written, and a line for each that cannot be.

    What does not fit on a full disk leaves the others.
    """
    problems: list[str] = []

    def attempt(path: Path, write: Callable[[Path], Path]) -> list[Path]:
        try:
            return [write(path)]
        except OSError as error:
            problems.append(f"cannot write {path}: {error.strerror or error}")
            return []

    return [path for pair in writers for path in attempt(*pair)], problems
