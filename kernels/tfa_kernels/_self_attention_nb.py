# mypy: ignore-errors
"""Norm, projection and attention of each window in one go, and their gradient in another.

A window's queries, keys and values are attended to while a core's caches hold them, and so are
their gradients used up. As many windows are taken at a time as make rows enough for products.

Arrays are flat. ``sizes`` are windows, rows of one, d, heads, windows of a chunk and those taken
at a time; a ``norm`` is weight, bias and what is added to the variance; ``at`` are the addresses
of products and of attention.
"""

import numpy as np
from numba import prange

from tfa_kernels._encoder_nb import add_before, times
from tfa_kernels._jit import parallel_kernel
from tfa_kernels._memory_nb import scratch
from tfa_kernels._products_nb import PANEL, nowhere, rows_alone
from tfa_kernels._row_ops_nb import norm_rows
from tfa_kernels._window_attention_nb import attend, attend_gradient, space


@parallel_kernel
def self_attention(x, sizes, norm, panels, bias, scale, at, qkv, out):
    """out [b T, d]: attention of qkv [b T, 3 d], the projected rows of norm(x)."""
    windows, T, d, heads, chunk, together = sizes
    of_products, of_attention = at
    shape, most = (T, heads, d // heads), together * T
    for number in prange((windows + chunk - 1) // chunk):
        normed, kept = scratch(most * d), np.empty((2, most), np.float32)
        room = space(shape, 3, 1)
        start = np.int64(number) * chunk
        end = min(start + chunk, windows)
        for first in range(start, end, together):
            count, to = min(together, end - first), first * T * d
            rows = count * T
            norm_rows(x, to, rows, d, norm, normed, (d, PANEL), kept)
            times(of_products, (normed, 0, d, 1), panels, d, rows_alone(bias, 0, 0),
                  (qkv, 3 * to, 3 * d), rows, 3 * d, nowhere(x))  # fmt: skip
            for window in range(first, first + count):
                place = window * T * d
                attend(of_attention, qkv, 3 * place, shape, scale, room, out, place,
                       (x, place + rows * d, T * d))  # fmt: skip


@parallel_kernel
def self_attention_gradient(
    gradient, x, passed, qkv, sizes, norm, panels, scale, at, out, sums
):  # fmt: skip
    """out = passed + the gradient of x [b T, d], from that of what `self_attention` gives.

    sums [chunks, size]: each chunk's gradients of weight, bias, and the norm's weight and bias.
    """
    windows, T, d, heads, chunk, together = sizes
    of_products, of_attention = at
    shape, most = (T, heads, d // heads), together * T
    for number in prange((windows + chunk - 1) // chunk):
        normed, changes, changed = scratch(most * d), scratch(most * d), scratch(3 * most * d)
        kept = np.empty((2, most), np.float32)
        room = space(shape, 4, 2)
        mine = sums[number]
        mine[:] = 0.0
        start = np.int64(number) * chunk
        end = min(start + chunk, windows)
        for first in range(start, end, together):
            count, to = min(together, end - first), first * T * d
            rows = count * T
            for window in range(first, first + count):
                place = window * T * d
                # The windows that are taken next.
                ahead = place + together * T * d
                attend_gradient(of_attention, gradient, place, qkv, 3 * place, shape, scale, room,
                                changed, 3 * (place - to), False, (qkv, 3 * ahead, 3 * T * d),
                                (gradient, ahead, T * d))  # fmt: skip
            add_before(of_products, (changed, 0), (x, passed, out), to, (rows, d, 3 * d), norm,
                       panels, (normed, changes, kept), mine,
                       (x, to + rows * d, rows * d))  # fmt: skip
