# mypy: ignore-errors
"""What ops read: bar columns in float64, and columns made of them on the way in."""

import math

import numpy as np

from tfa_kernels._jit import inline_kernel

OPEN, HIGH, LOW, CLOSE, VOLUME, LOGRET, LOG_RANGE_SQUARED, GARMAN_KLASS = range(8)

PRICE_FLOOR = 1e-12


@inline_kernel
def log_price(v, legacy):
    if v < PRICE_FLOOR:
        v = PRICE_FLOOR
    y = math.log(v)
    if legacy:
        y = np.float64(np.float32(y))
    return y


@inline_kernel
def _given(v, legacy):
    return np.float64(np.float32(v)) if legacy else v


@inline_kernel
def load(bars, source, lo, hi, starts, legacy, carried, out):
    """Rows lo..hi of a source into out[0] on; starts: row lo begins a series.

    bars: five columns, of which those that the source is made of are there. carried[0] is kept
    from rows to rows. "legacy" rounds what it reads to float32, and its logs.
    """
    # np.log: math.log raises at a negative number where the kernels run uncompiled.
    if source <= VOLUME:
        column = bars[source][lo:hi]
        if legacy:
            for r in range(hi - lo):
                out[r] = np.float64(np.float32(column[r]))
        else:
            for r in range(hi - lo):
                out[r] = column[r]
    elif source == LOGRET:
        close = bars[CLOSE][lo:hi]
        last = carried[0]
        for r in range(hi - lo):
            now = log_price(_given(close[r], legacy), legacy)
            out[r] = _given(now - last, legacy)
            last = now
        carried[0] = last
        if starts:
            out[0] = 0.0 if legacy else np.nan
    elif source == LOG_RANGE_SQUARED:
        high, low = bars[HIGH][lo:hi], bars[LOW][lo:hi]
        for r in range(hi - lo):
            extent = np.log(_given(high[r], legacy) / _given(low[r], legacy))
            out[r] = extent * extent
    elif source == GARMAN_KLASS:
        # The terms whose rolling mean is the squared volatility of Garman and Klass (1980).
        weight = 2.0 * math.log(2.0) - 1.0
        opened, high, low, close = (
            bars[OPEN][lo:hi],
            bars[HIGH][lo:hi],
            bars[LOW][lo:hi],
            bars[CLOSE][lo:hi],
        )
        for r in range(hi - lo):
            extent = np.log(_given(high[r], legacy) / _given(low[r], legacy))
            body = np.log(_given(close[r], legacy) / _given(opened[r], legacy))
            out[r] = 0.5 * extent * extent - weight * body * body
        # The legacy builder counts 0 for a series' first bar, whose range is known.
        if starts and legacy:
            out[0] = 0.0
