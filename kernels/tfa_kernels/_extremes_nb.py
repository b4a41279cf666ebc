# mypy: ignore-errors
"""Where the close lies between the window's highest high and lowest low.

The window is w bars in "talib" and w + 1 in "legacy". A non-finite high or low makes every row NaN
whose window holds it, a non-finite close its own row. A window without range gives 0; "talib"
counts a range of 1e-14 of the prices as none (TA-Lib 0.8.1).
"""

import numpy as np

from tfa_kernels._blocks_nb import window_extremes, window_sum
from tfa_kernels._jit import inline_kernel

NO_RANGE = 1e-14


@inline_kernel
def _extremes(high, low, lo, hi, m, sf, work, kept):
    # Infinities stand for non-finite values: an extreme of them stays infinite.
    for r in range(hi - lo):
        h, s = high[lo + r], low[lo + r]
        work[0, r] = h if abs(h) < np.inf else np.inf
        work[1, r] = s if abs(s) < np.inf else -np.inf
    window_extremes(work[0], work[1], lo, hi, m, sf, kept)


@inline_kernel
def _position(tops, bottoms, close, legacy, n, out):
    """100 (close - bottom) / (top - bottom)."""
    none = 0.0 if legacy else NO_RANGE
    for r in range(n):
        span = tops[r] - bottoms[r]
        zero = none * (abs(tops[r]) + abs(bottoms[r]))
        k = 0.0 if span <= zero else 100.0 * (close[r] - bottoms[r]) / span
        out[r] = k if abs(close[r]) + span < np.inf else np.nan


@inline_kernel
def stochastic_k(high, low, close, lo, hi, legacy, w, sf, work, kept, out):
    m = w + 1 if legacy else w
    if m > close.size:
        return
    _extremes(high, low, lo, hi, m, sf, work, kept)
    _position(work[0], work[1], close[lo:hi], legacy, hi - lo, out)


@inline_kernel
def stochastic_d(high, low, close, lo, hi, legacy, w, d, sf, work, kept, out):
    """Mean of the last d stochastic_k."""
    m = w + 1 if legacy else w
    if max(m, d) > close.size:
        return
    _extremes(high, low, lo, hi, m, sf, work, kept)
    k = work[2]
    _position(work[0], work[1], close[lo:hi], legacy, hi - lo, k)
    window_sum(k, lo, hi, d, sf[2:], kept[2 * m + 2 :])
    for r in range(hi - lo):
        out[r] = k[r] / d


@inline_kernel
def williams_r(high, low, close, lo, hi, legacy, w, sf, work, kept, out):
    m = w + 1 if legacy else w
    if m > close.size:
        return
    _extremes(high, low, lo, hi, m, sf, work, kept)
    # The distance from the top, upside down, is the distance from the bottom.
    for r in range(hi - lo):
        top = work[0, r]
        work[0, r] = -work[1, r]
        work[1, r] = -top
        work[2, r] = -close[lo + r]
    _position(work[0], work[1], work[2], legacy, hi - lo, out)
    for r in range(hi - lo):
        out[r] = -out[r]
