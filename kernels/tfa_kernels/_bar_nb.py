# mypy: ignore-errors
"""Ops of one bar, or of it and the bar before.

Each divides by something that a bar may lack (a range, a volume, a price before): there it gives 0.
A NaN or inf reaches the rows that read it and no others; in a comparison that decides whether to
divide, a NaN counts as lacking.
"""

import math

import numpy as np
from numba import prange

from tfa_kernels._jit import inline_kernel, parallel_kernel

# Smaller ranges and volumes are none.
LEAST = 1e-8
LOG_BLOCK = 4096


@inline_kernel
def spread_bp(high, low, lo, hi, out):
    for t in range(lo, hi):
        middle = (high[t] + low[t]) / 2.0
        out[t - lo] = 1e4 * (high[t] - low[t]) / middle if middle > 1e-8 else 0.0


@inline_kernel
def price_impact(close, volume, lo, hi, out):
    for t in range(max(lo, 1), hi):
        before = close[t - 1]
        moved = 1e6 * abs(close[t] - before) / before / np.sqrt(volume[t])
        out[t - lo] = 0.0 if before <= 0.0 or volume[t] <= 0.0 else moved


@inline_kernel
def order_flow(high, low, close, volume, lo, hi, out):
    for t in range(lo, hi):
        extent = high[t] - low[t]
        balance = (close[t] - low[t]) / extent - (high[t] - close[t]) / extent
        out[t - lo] = balance * volume[t] if extent > LEAST else 0.0


@inline_kernel
def market_depth(high, low, volume, lo, hi, out):
    for t in range(lo, hi):
        extent = high[t] - low[t]
        if extent > LEAST and volume[t] > LEAST:
            out[t - lo] = extent / math.log1p(volume[t])
        else:
            out[t - lo] = 0.0


@inline_kernel
def bid_ask_ratio(high, low, close, lo, hi, legacy, out):
    """legacy computes in float32, where 1e-8 counts at a close on the high alone."""
    if legacy:
        one, small = np.float32(1.0), np.float32(1e-8)
        for t in range(lo, hi):
            bottom = np.float32(low[t])
            extent = np.float32(high[t]) - bottom
            place = (np.float32(close[t]) - bottom) / extent
            ratio = place / (one - place + small)
            out[t - lo] = ratio if extent > small else np.float32(0.0)
    else:
        for t in range(lo, hi):
            extent = high[t] - low[t]
            place = (close[t] - low[t]) / extent
            out[t - lo] = place / (1.0 - place + 1e-8) if extent > LEAST else 0.0


# np.log and np.sqrt: those of math raise at a negative number where the kernels run uncompiled.
@parallel_kernel
def log_range_squared(high, low, out):
    for b in prange((high.size + LOG_BLOCK - 1) // LOG_BLOCK):
        lo = np.int64(b) * LOG_BLOCK
        for i in range(lo, min(lo + LOG_BLOCK, high.size)):
            extent = np.log(high[i] / low[i])
            out[i] = extent * extent


@parallel_kernel
def garman_klass(open_, high, low, close, out):
    """The terms whose rolling mean is the squared volatility of Garman and Klass (1980)."""
    weight = 2.0 * math.log(2.0) - 1.0
    for b in prange((high.size + LOG_BLOCK - 1) // LOG_BLOCK):
        lo = np.int64(b) * LOG_BLOCK
        for i in range(lo, min(lo + LOG_BLOCK, high.size)):
            extent = np.log(high[i] / low[i])
            body = np.log(close[i] / open_[i])
            out[i] = 0.5 * extent * extent - weight * body * body
