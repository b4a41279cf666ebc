# mypy: ignore-errors
"""Windows back to the rows that they were cut from: a pure loop, no validation."""

from numba import prange

from tfa_kernels._jit import parallel_kernel


@parallel_kernel
def overlap_add(windows, count, T, columns, out):
    """out[r] = sum over w of windows[w, r - w], flat arrays; rows and their sums in rising w."""
    for r in prange(count + T - 1):
        to = r * columns
        first, last = max(0, r - T + 1), min(count - 1, r)
        for c in range(columns):
            out[to + c] = windows[(first * T + r - first) * columns + c]
        for w in range(first + 1, last + 1):
            at = (w * T + r - w) * columns
            for c in range(columns):
                out[to + c] += windows[at + c]
