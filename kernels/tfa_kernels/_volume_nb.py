# mypy: ignore-errors
"""Running totals of volume: a non-finite step stays in the total from there on."""

import numpy as np

from tfa_kernels._jit import inline_kernel
from tfa_kernels._op_nb import column, op_kernel, read, written


@inline_kernel
def _total(u, n):
    """Totals of the steps in work[0]. State: floats[0]."""
    sf, step, out = u.floats[column(u, 0)], u.work[0], written(u, 0)
    total = sf[0]
    for r in range(n):
        total += step[r]
        out[r] = total
    sf[0] = total


@op_kernel
def obv(u, lo, hi):
    """Volume of bars that close up less volume of bars that close down."""
    first = max(lo, 1)
    close, before = read(u, 0, first, hi), read(u, 0, first - 1, hi - 1)
    volume, step = read(u, 1, lo, hi), u.work[0]
    if lo == 0:
        u.floats[column(u, 0), 0] = 0.0
        step[0] = 0.0 if u.legacy else volume[0]
    at = first - lo
    for r in range(hi - first):
        move = close[r] - before[r]
        v = volume[at + r] if move > 0.0 else -volume[at + r]
        # Only a NaN is unequal to itself.
        step[at + r] = v if move != 0.0 and move == move else (0.0 if move == 0.0 else np.nan)
    _total(u, hi - lo)


@op_kernel
def vpt(u, lo, hi):
    """Volume times relative price change."""
    first = max(lo, 1)
    close, before = read(u, 0, first, hi), read(u, 0, first - 1, hi - 1)
    volume, step = read(u, 1, lo, hi), u.work[0]
    if lo == 0:
        u.floats[column(u, 0), 0] = 0.0
        step[0] = 0.0
    at = first - lo
    for r in range(hi - first):
        step[at + r] = volume[at + r] * ((close[r] - before[r]) / before[r])
    _total(u, hi - lo)


@op_kernel
def ad_line(u, lo, hi):
    """Volume times the place of the close between low (-1) and high (+1); a flat bar adds 0."""
    high, low, close, volume = (
        read(u, 0, lo, hi),
        read(u, 1, lo, hi),
        read(u, 2, lo, hi),
        read(u, 3, lo, hi),
    )
    step = u.work[0]
    flat = 1e-8 if u.legacy else 0.0
    for r in range(hi - lo):
        span = high[r] - low[r]
        place = ((close[r] - low[r]) - (high[r] - close[r])) / span
        step[r] = 0.0 if span <= flat else volume[r] * place
    if lo == 0:
        u.floats[column(u, 0), 0] = 0.0
        if u.legacy:
            step[0] = 0.0
    _total(u, hi - lo)
