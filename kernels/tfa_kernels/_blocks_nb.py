# mypy: ignore-errors
"""Window maxima, minima and sums in O(1) per row, and without subtracting what has left.

Blocks of m rows begin at rows 0, m, 2 m, ... (van Herk, Pattern Recognition Letters 13, 1992; Gil
and Werman, IEEE TPAMI 15, 1993). The window of m rows that ends in a block is the end of the block
before it, kept as the aggregates from each of its rows to its last, joined with the current block
so far. So nothing that has left leaves a rounding error behind, sums of zeros are exactly zero, and
a NaN that a sum takes in is gone with its row.

kept holds, per aggregate, m + 1 floats that last from tile to tile: the ends of the last whole
block, of which a row is overwritten by its new value as soon as no window needs it. Rows t < m - 1
are left with anything.
"""

import numpy as np

from tfa_kernels._jit import inline_kernel


@inline_kernel
def window_extremes(high, low, lo, hi, m, sf, kept):
    """Replace high by its maximum and low by its minimum over rows t-m+1..t.

    Row t is at t - lo of both; kept has 2 (m + 1) floats; sf[:2] is state.
    """
    tops, bottoms = kept[: m + 1], kept[m + 1 : 2 * m + 2]
    tops[m] = -np.inf
    bottoms[m] = np.inf
    top, bottom = sf[0], sf[1]
    at = lo % m
    a = 0
    while a < hi - lo:
        rows = min(hi - lo - a, m - at)
        if at == 0:
            top = -np.inf
            bottom = np.inf
        for i in range(rows):
            h, s = high[a + i], low[a + i]
            top = h if h > top else top
            bottom = s if s < bottom else bottom
            end_top, end_bottom = tops[at + i + 1], bottoms[at + i + 1]
            tops[at + i] = h
            bottoms[at + i] = s
            high[a + i] = top if top > end_top else end_top
            low[a + i] = bottom if bottom < end_bottom else end_bottom
        a += rows
        at += rows
        if at == m:
            at = 0
            end_top, end_bottom = tops[m - 1], bottoms[m - 1]
            for i in range(m - 2, -1, -1):
                end_top = tops[i] if tops[i] > end_top else end_top
                end_bottom = bottoms[i] if bottoms[i] < end_bottom else end_bottom
                tops[i] = end_top
                bottoms[i] = end_bottom
    sf[0], sf[1] = top, bottom


@inline_kernel
def window_sum(values, lo, hi, m, state, kept):
    """Replace values by their sums over rows t-m+1..t; kept has m + 1 floats, state one."""
    kept[m] = 0.0
    total = state[0]
    at = lo % m
    a = 0
    while a < hi - lo:
        rows = min(hi - lo - a, m - at)
        if at == 0:
            total = 0.0
        for i in range(rows):
            v = values[a + i]
            total += v
            end = kept[at + i + 1]
            kept[at + i] = v
            values[a + i] = total + end
        a += rows
        at += rows
        if at == m:
            at = 0
            end = 0.0
            for i in range(m - 1, -1, -1):
                end += kept[i]
                kept[i] = end
    state[0] = total
