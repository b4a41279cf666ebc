# mypy: ignore-errors
"""Window gather kernel: a pure loop, no validation."""

import numpy as np
from numba import prange

from tfa_kernels._jit import inline_kernel, parallel_kernel


@inline_kernel
def _copy(target, source):
    # Over flat slices: indices computed from a row would be checked for wrap-around, byte by byte.
    for j in range(target.size):
        target[j] = source[j]


@parallel_kernel
def gather(flat, starts, row_bytes, window_bytes, out):
    """Copy window_bytes from byte starts[i] * row_bytes of flat to byte i * window_bytes of out.

    Bytes, so that one compiled kernel serves every dtype; the copy becomes vector moves.
    """
    for b in prange(starts.size):
        i = np.int64(b)
        first = starts[i] * row_bytes
        _copy(
            out[i * window_bytes : (i + 1) * window_bytes],
            flat[first : first + window_bytes],
        )
