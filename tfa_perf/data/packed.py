"""How much a packed CSV file holds: one of 1 MB may hold a thousand times as much."""

from __future__ import annotations

import gzip
from pathlib import Path

from tfa_perf.available_memory import available_bytes
from tfa_perf.data.bars import BarsError

__all__ = ["check_unpacked_size"]

# Reading a CSV takes up to that, measured with the shortest rows.
_MEMORY_PER_BYTE = 8
_MOST_WHERE_UNKNOWN = 2 << 30
_GZIP = b"\x1f\x8b"
# zstd, and zlib at its levels: polars would unpack these as well.
_OTHERS = (b"\x28\xb5\x2f\xfd", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")


def check_unpacked_size(path: Path) -> None:
    """Raise BarsError where ``path`` is packed and there is no memory for what it holds.

    EOFError, OSError and zlib.error come out of a damaged file.
    """
    with path.open("rb") as file:
        start = file.read(4)
    if start.startswith(_OTHERS):
        raise BarsError(f"{path}: is packed, but not by gzip; write .csv or .csv.gz")
    if not start.startswith(_GZIP):
        return
    free = available_bytes()
    most = _MOST_WHERE_UNKNOWN if free is None else free // _MEMORY_PER_BYTE
    unpacked = 0
    with gzip.open(path) as packed:
        while block := packed.read(1 << 20):
            unpacked += len(block)
            if unpacked > most:
                raise BarsError(
                    f"{path}: unpacks to more than {most:,} bytes, for which there is no memory; "
                    "write fewer rows, or Parquet"
                )
