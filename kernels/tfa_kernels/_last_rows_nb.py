# mypy: ignore-errors
"""What the last row of each window attends to, of rows that are normed while caches hold them.

Arrays are flat. ``sizes`` are windows, rows of one, d, heads, and windows that a thread takes at a
time; a ``norm`` is weight, bias and what is added to the variance; ``at`` is the address of
products. Scores are kept with heads along the vectors, whole vectors of them.
"""

import numpy as np
from numba import prange

from tfa_kernels._jit import inline_kernel, parallel_kernel
from tfa_kernels._memory_nb import scratch
from tfa_kernels._products_nb import PANEL, nothing, nowhere, product_at, rows_alone
from tfa_kernels._row_ops_nb import norm_gradient, norm_rows
from tfa_kernels._vectors_nb import LOG2_E, WIDTH
from tfa_kernels._window_attention_nb import divide, softmax, softmax_gradient


@parallel_kernel
def last_attention(x, sought, sizes, norm, at, out):
    """out [b, heads, d]: rows of norm(x), [b, T, d], weighed by softmax of their ``sought``."""
    windows, T, d, heads, group = sizes
    width = (heads + WIDTH - 1) // WIDTH * WIDTH
    for number in prange((windows + group - 1) // group):
        normed, kept = scratch(T * d), np.empty((2, T), np.float32)
        turned, weights, sums = scratch(d * width), scratch(T * width), scratch(width)
        turned[:] = 0.0
        first = np.int64(number) * group
        for window in range(first, min(first + group, windows)):
            norm_rows(x, window * T * d, T, d, norm, normed, (d, PANEL), kept)
            _turn(sought, window * heads * d, heads, d, LOG2_E, turned, width)
            _scores(at, normed, turned, T, d, width, weights)
            softmax(weights, T, width, sums)
            place = window * heads * d
            _of_heads(at, weights, normed, T, d, heads, width, out, place)
            divide(heads, d, sums, out, place)


@parallel_kernel
def last_attention_gradient(gradient, x, sought, sizes, norm, at, out, of_sought, sums):
    """out [b, T, d] and of_sought [b, heads, d], from that of what `last_attention` gives.

    sums [chunks, 2 d]: each chunk's gradients of the norm's weight and bias.
    """
    windows, T, d, heads, group = sizes
    width = (heads + WIDTH - 1) // WIDTH * WIDTH
    for number in prange((windows + group - 1) // group):
        normed, changed = scratch(T * d), scratch(T * d)
        kept = np.empty((2, T), np.float32)
        turned, totals = scratch(d * width), scratch(width)
        weights, changes = scratch(T * width), scratch(T * width)
        turned[:] = 0.0
        mine = sums[number]
        mine[:] = 0.0
        first = np.int64(number) * group
        for window in range(first, min(first + group, windows)):
            begin, place = window * T * d, window * heads * d
            norm_rows(x, begin, T, d, norm, normed, (d, PANEL), kept)
            _turn(sought, place, heads, d, LOG2_E, turned, width)
            _scores(at, normed, turned, T, d, width, weights)
            softmax(weights, T, width, totals)
            _turn(gradient, place, heads, d, np.float32(1.0), turned, width)
            _scores(at, normed, turned, T, d, width, changes)
            softmax_gradient(weights, changes, T, width, totals)
            _of_heads(at, changes, normed, T, d, heads, width, of_sought, place)
            _of_rows(at, weights, gradient, place, T, d, heads, width, nothing(changed), changed)
            _of_rows(at, changes, sought, place, T, d, heads, width, rows_alone(changed, 0, d),
                     changed)  # fmt: skip
            # Nothing comes from elsewhere.
            for i in range(begin, begin + T * d):
                out[i] = 0.0
            norm_gradient(changed, x, out, begin, T, d, norm[0], kept, out, (mine[:d], mine[d:]))


@inline_kernel
def _turn(rows, at, heads, d, factor, out, width):
    """out [d, width] = rows [heads, d] the other way round, times ``factor``."""
    for head in range(heads):
        for c in range(d):
            out[c * width + head] = rows[at + head * d + c] * factor


@inline_kernel
def _scores(address, normed, turned, T, d, width, out):
    product_at(address, (normed, 0, d, 1), (turned, 0, width, PANEL), d, nothing(out),
               (out, 0, width), T, width, nowhere(out))  # fmt: skip


@inline_kernel
def _of_heads(address, weights, normed, T, d, heads, width, out, at):
    """Of each head the sum of weighted rows."""
    product_at(address, (weights, 0, 1, width), (normed, 0, d, PANEL), T, nothing(out),
               (out, at, d), heads, d, nowhere(out))  # fmt: skip


@inline_kernel
def _of_rows(address, weights, given, at, T, d, heads, width, begin, out):
    """Of each row the sum of what its weights give of the heads."""
    product_at(address, (weights, 0, width, 1), (given, at, d, PANEL), heads, begin, (out, 0, d),
               T, d, nowhere(out))  # fmt: skip
