"""Rows of a store's arrays, written by many processes into one file.

The last bytes of one partition and the first of the next lie in one page. A client of a network
file system that wrote a page of a memory map would write its neighbour's bytes as it last saw them.
So rows are written as bytes, under a lock on just these bytes, which such a client heeds too.
"""

from __future__ import annotations

import errno
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from tfa_perf.data.store_meta import DTYPES, array_shapes

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]

__all__ = ["checksums", "data_offset", "read_rows", "row_bytes", "write_rows"]

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def row_bytes(name: str, features: int) -> int:
    """Bytes of a row of the array ``name``."""
    return np.dtype(DTYPES[name]).itemsize * (features if name == "features" else 1)


def data_offset(folder: Path, name: str, rows: int, features: int) -> int:
    """Where in its file the first row of the array ``name`` is.

    Raises OSError or ValueError where the file is not of this shape.
    """
    array = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
    expected = (DTYPES[name], array_shapes(rows, features)[name])
    if not isinstance(array, np.memmap) or (array.dtype.str, array.shape) != expected:
        raise ValueError(f"{folder / name}.npy: holds {array.dtype} {array.shape}, not {expected}")
    return array.offset


def write_rows(folder: Path, first: int, rows: int, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Put ``arrays`` at row ``first`` of those in ``folder``, which have ``rows`` rows.

    They are on the disk when this returns. Raises OSError, also where ``folder`` is called
    otherwise by now: it then belongs to another run.
    """
    features = arrays["features"].shape[1]
    for name, values in arrays.items():
        content = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        file = folder / f"{name}.npy"
        begin = data_offset(folder, name, rows, features) + first * row_bytes(name, features)
        with file.open("r+b") as opened, _locked(opened, begin, content.nbytes):
            if not os.path.samestat(file.stat(), os.fstat(opened.fileno())):
                raise FileNotFoundError(errno.ENOENT, "is not the file that was opened", str(file))
            opened.seek(begin)
            opened.write(content.data)
            opened.flush()
            os.fsync(opened.fileno())


def read_rows(
    folder: Path, first: int, count: int, rows: int, features: int
) -> dict[str, NDArray[Any]]:
    """Rows ``first .. first + count - 1`` of the arrays in ``folder``, which have ``rows`` rows.

    Raises OSError or ValueError where the files do not hold them.
    """
    arrays = {}
    for name, shape in array_shapes(count, features).items():
        begin = data_offset(folder, name, rows, features) + first * row_bytes(name, features)
        values = np.fromfile(
            folder / f"{name}.npy",
            np.dtype(DTYPES[name]),
            int(np.prod(shape)),
            offset=begin,
        )
        arrays[name] = values.reshape(shape)
    return arrays


def checksums(arrays: Mapping[str, NDArray[Any]]) -> dict[str, int]:
    """CRC-32 of the bytes of each array."""
    return {name: zlib.crc32(np.ascontiguousarray(rows).data) for name, rows in arrays.items()}


@contextmanager
def _locked(opened: BinaryIO, begin: int, length: int) -> Iterator[None]:
    """The system lets go of the lock when the file is closed, however its process ends."""
    if fcntl is not None:
        try:
            fcntl.lockf(opened, fcntl.LOCK_EX, length, begin)
        except OSError as error:
            # A file system without locks is no reason not to write.
            if error.errno not in _NO_LOCKS:
                raise
    yield
