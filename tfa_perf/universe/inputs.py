"""The files of bars that a universe is built from: one file is one partition."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tfa_perf.data.bars import BarsError

__all__ = ["Fingerprint", "default_symbol", "find_inputs", "fingerprint"]

_SUFFIXES = (".gz", ".csv", ".parquet", ".pq")
_HIVE = "symbol="


class Fingerprint(NamedTuple):
    """What tells whether a file has changed: its size and the time it was written.

    Not a checksum: that would read every byte of the bars again to find that nothing has changed.
    A file that was copied or touched counts as changed and is built again, which costs time alone.
    """

    bytes: int
    mtime_ns: int


def find_inputs(patterns: Sequence[str | os.PathLike[str]]) -> list[str]:
    """Absolute paths of the files that ``patterns`` name, each once, in the order of their text.

    A pattern is a file, or a glob in which ``**`` stands for any folders. Raises BarsError where
    one finds no file.
    """
    found: set[str] = set()
    for pattern in (os.fspath(each) for each in patterns):
        files = [pattern] if os.path.isfile(pattern) else glob.glob(pattern, recursive=True)
        files = [file for file in files if os.path.isfile(file)]
        if not files:
            inside = f"; for the files in it: {pattern}/*.parquet" if os.path.isdir(pattern) else ""
            raise BarsError(f"bars: no file matches {pattern!r}{inside}")
        found.update(os.path.abspath(file) for file in files)
    if not found:
        raise BarsError("bars: no file is named; give files or patterns, as 'data/*.parquet'")
    return sorted(found)


def default_symbol(file: str) -> str:
    """The symbol of a file that has no column of that name.

    It is ``symbol=NAME`` among the folders, as partitioned data sets have it, else the file's
    name without its suffixes.
    """
    path = Path(file)
    for folder in reversed(path.parts[:-1]):
        if folder.startswith(_HIVE):
            return folder.removeprefix(_HIVE)
    while path.suffix.lower() in _SUFFIXES:
        path = path.with_suffix("")
    return path.name


def fingerprint(file: str) -> Fingerprint:
    """Raises OSError."""
    found = os.stat(file)
    return Fingerprint(found.st_size, found.st_mtime_ns)
