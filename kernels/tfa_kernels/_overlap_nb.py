# mypy: ignore-errors
"""Windows back to the rows that they were cut from: a pure loop, no validation."""

import numpy as np
from numba import prange

from tfa_kernels._jit import parallel_kernel
from tfa_kernels._vectors_nb import WIDTH, load, store

# A thread takes so many rows at a time: windows are read in long pieces, and sums stay in a cache.
_ROWS = 32


@parallel_kernel
def overlap_add(windows, count, T, columns, out):
    """out[r] = sum over w of windows[w, r - w], flat arrays, in rising w."""
    rows, whole = count + T - 1, columns // WIDTH * WIDTH
    for number in prange((rows + _ROWS - 1) // _ROWS):
        start = np.int64(number) * _ROWS
        end = min(start + _ROWS, rows)
        for w in range(max(0, start - T + 1), min(count, end)):
            for r in range(max(start, w), min(end, w + T)):
                at, to = (w * T + r - w) * columns, r * columns
                # No window before this one has the row.
                if w == 0 or r - w == T - 1:
                    for c in range(0, whole, WIDTH):
                        store(out, to + c, load(windows, at + c))
                    for c in range(whole, columns):
                        out[to + c] = windows[at + c]
                else:
                    for c in range(0, whole, WIDTH):
                        store(out, to + c, load(out, to + c) + load(windows, at + c))
                    for c in range(whole, columns):
                        out[to + c] += windows[at + c]
