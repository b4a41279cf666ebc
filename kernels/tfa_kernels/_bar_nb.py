# mypy: ignore-errors
"""Ops of one bar, or of it and one bar before.

Those of range and volume divide by something that a bar may lack (a range, a volume, a price
before): there they give 0. A NaN or inf reaches the rows that read it and no others; in a
comparison that decides whether to divide, a NaN counts as lacking.
"""

import math

import numpy as np

from tfa_kernels._op_nb import column, op_kernel, read, window, written
from tfa_kernels._sources_nb import PRICE_FLOOR, log_price

# Smaller ranges and volumes are none.
LEAST = 1e-8


@op_kernel
def ident(u, lo, hi):
    x, out = read(u, 0, lo, hi), written(u, 0)
    for r in range(hi - lo):
        out[r] = x[r]


@op_kernel
def logret(u, lo, hi):
    """State: floats[0], the log of the price before."""
    x, sf, out = read(u, 0, lo, hi), u.floats[column(u, 0)], written(u, 0)
    last = sf[0]
    for r in range(hi - lo):
        now = log_price(x[r], u.legacy)
        out[r] = now - last
        last = now
    sf[0] = last


@op_kernel
def momentum(u, lo, hi):
    w = window(u, 0)
    first = min(max(lo, w), hi)
    now, before, out = read(u, 0, first, hi), read(u, 0, first - w, hi - w), written(u, 0)
    at = first - lo
    for r in range(hi - first):
        out[at + r] = now[r] - before[r]


@op_kernel
def roc(u, lo, hi):
    w = window(u, 0)
    first = min(max(lo, w), hi)
    now, past, out = read(u, 0, first, hi), read(u, 0, first - w, hi - w), written(u, 0)
    floor = PRICE_FLOOR if u.legacy else -np.inf
    at = first - lo
    for r in range(hi - first):
        before = past[r]
        if before < floor:
            before = floor
        out[at + r] = 0.0 if before == 0.0 else 100.0 * (now[r] - before) / before


@op_kernel
def spread_bp(u, lo, hi):
    high, low, out = read(u, 0, lo, hi), read(u, 1, lo, hi), written(u, 0)
    for r in range(hi - lo):
        middle = (high[r] + low[r]) / 2.0
        out[r] = 1e4 * (high[r] - low[r]) / middle if middle > 1e-8 else 0.0


@op_kernel
def price_impact(u, lo, hi):
    first = max(lo, 1)
    close, past, volume = (
        read(u, 0, first, hi),
        read(u, 0, first - 1, hi - 1),
        read(u, 1, first, hi),
    )
    out, at = written(u, 0), first - lo
    for r in range(hi - first):
        before = past[r]
        moved = 1e6 * abs(close[r] - before) / before / np.sqrt(volume[r])
        out[at + r] = 0.0 if before <= 0.0 or volume[r] <= 0.0 else moved


@op_kernel
def order_flow(u, lo, hi):
    high, low, close = read(u, 0, lo, hi), read(u, 1, lo, hi), read(u, 2, lo, hi)
    volume, out = read(u, 3, lo, hi), written(u, 0)
    for r in range(hi - lo):
        extent = high[r] - low[r]
        balance = (close[r] - low[r]) / extent - (high[r] - close[r]) / extent
        out[r] = balance * volume[r] if extent > LEAST else 0.0


@op_kernel
def market_depth(u, lo, hi):
    high, low, volume = read(u, 0, lo, hi), read(u, 1, lo, hi), read(u, 2, lo, hi)
    out = written(u, 0)
    for r in range(hi - lo):
        extent = high[r] - low[r]
        if extent > LEAST and volume[r] > LEAST:
            out[r] = extent / math.log1p(volume[r])
        else:
            out[r] = 0.0


@op_kernel
def bid_ask_ratio(u, lo, hi):
    """legacy computes in float32, where 1e-8 counts at a close on the high alone."""
    high, low, close = read(u, 0, lo, hi), read(u, 1, lo, hi), read(u, 2, lo, hi)
    out = written(u, 0)
    if u.legacy:
        one, small = np.float32(1.0), np.float32(1e-8)
        for r in range(hi - lo):
            bottom = np.float32(low[r])
            extent = np.float32(high[r]) - bottom
            place = (np.float32(close[r]) - bottom) / extent
            ratio = place / (one - place + small)
            out[r] = ratio if extent > small else np.float32(0.0)
    else:
        for r in range(hi - lo):
            extent = high[r] - low[r]
            place = (close[r] - low[r]) / extent
            out[r] = place / (1.0 - place + 1e-8) if extent > LEAST else 0.0
