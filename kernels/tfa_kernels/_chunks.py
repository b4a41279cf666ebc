"""Chunks of rows, each with gradients of the weights of its own, which are added up at the end."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tfa_kernels._arrays import empty
from tfa_kernels._encoder_nb import add_chunks

__all__ = ["chunk_of", "chunk_sums", "summed"]

Array = npt.NDArray[np.float32]

# As many chunks as keep threads evenly at work, of no fewer rows than make their sum a small part,
# and no more than memory of a few dozen weights.
_CHUNK_ROWS, _LEAST_ROWS, _CHUNKS, _MOST_CHUNKS = 768, 192, 8, 64
_PIECE = 4096


def chunk_of(rows: int) -> int:
    """Rows of a chunk."""
    many = max(_CHUNKS, rows // _CHUNK_ROWS // _CHUNKS * _CHUNKS)
    chunks = max(1, min(rows // _LEAST_ROWS, many, _MOST_CHUNKS))
    return max(1, -(-rows // chunks))


def chunk_sums(rows: int, size: int) -> Array:
    """Room for ``size`` sums of each chunk of the rows."""
    return empty(-(-rows // chunk_of(rows)), size)


def summed(sums: Array, parts: tuple[int, ...], threads: int) -> list[Array]:
    """The sums over chunks, cut into parts."""
    chunks, size = sums.shape
    if not chunks:
        return np.split(np.zeros(size, np.float32), np.cumsum(parts)[:-1])
    out = empty(size)
    add_chunks(sums, chunks, size, _PIECE, out, num_threads=threads)
    return np.split(out, np.cumsum(parts)[:-1])
