# mypy: ignore-errors
"""Where the close lies between the window's highest high and lowest low.

The window is w bars in "talib" and w + 1 in "legacy". A non-finite high or low makes every row NaN
whose window holds it, a non-finite close its own row. A window without range gives 0; "talib"
counts a range of 1e-14 of the prices as none (TA-Lib 0.8.1).
"""

import numpy as np

from tfa_kernels._blocks_nb import window_extremes, window_sum
from tfa_kernels._jit import inline_kernel
from tfa_kernels._op_nb import column, op_kernel, read, window, written

NO_RANGE = 1e-14


@inline_kernel
def _extremes(u, lo, hi):
    """The window's top and bottom into work[:2], and its rows. State: floats[:2] and kept."""
    w = window(u, 0)
    m = w + 1 if u.legacy else w
    high, low = read(u, 0, lo, hi), read(u, 1, lo, hi)
    tops, bottoms = u.work[0], u.work[1]
    # Infinities stand for non-finite values: an extreme of them stays infinite.
    for r in range(hi - lo):
        h, s = high[r], low[r]
        tops[r] = h if abs(h) < np.inf else np.inf
        bottoms[r] = s if abs(s) < np.inf else -np.inf
    window_extremes(tops, bottoms, lo, hi, m, u.floats[column(u, 0)], u.kept)
    return m


@inline_kernel
def _position(tops, bottoms, close, legacy, n, out):
    """100 (close - bottom) / (top - bottom)."""
    none = 0.0 if legacy else NO_RANGE
    for r in range(n):
        span = tops[r] - bottoms[r]
        zero = none * (abs(tops[r]) + abs(bottoms[r]))
        k = 0.0 if span <= zero else 100.0 * (close[r] - bottoms[r]) / span
        out[r] = k if abs(close[r]) + span < np.inf else np.nan


@op_kernel
def stochastic_k(u, lo, hi):
    _extremes(u, lo, hi)
    _position(u.work[0], u.work[1], read(u, 2, lo, hi), u.legacy, hi - lo, written(u, 0))


@op_kernel
def stochastic_d(u, lo, hi):
    """Mean of the last d_period stochastic_k. Further state: floats[2] and the rest of kept."""
    c = column(u, 0)
    d = np.int64(u.params[c, 0])
    m = _extremes(u, lo, hi)
    k, out = u.work[2], written(u, 0)
    _position(u.work[0], u.work[1], read(u, 2, lo, hi), u.legacy, hi - lo, k)
    window_sum(k, lo, hi, d, u.floats[c, 2:], u.kept[2 * m + 2 :])
    for r in range(hi - lo):
        out[r] = k[r] / d


@op_kernel
def williams_r(u, lo, hi):
    _extremes(u, lo, hi)
    close, out = read(u, 2, lo, hi), written(u, 0)
    tops, bottoms, turned = u.work[0], u.work[1], u.work[2]
    # The distance from the top, upside down, is the distance from the bottom.
    for r in range(hi - lo):
        top = tops[r]
        tops[r] = -bottoms[r]
        bottoms[r] = -top
        turned[r] = -close[r]
    _position(tops, bottoms, turned, u.legacy, hi - lo, out)
    for r in range(hi - lo):
        out[r] = -out[r]
