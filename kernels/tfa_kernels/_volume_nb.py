# mypy: ignore-errors
"""Running totals of volume: a non-finite step stays in the total from there on."""

import numpy as np

from tfa_kernels._jit import inline_kernel


@inline_kernel
def _total(step, n, out, sf):
    total = sf[0]
    for r in range(n):
        total += step[r]
        out[r] = total
    sf[0] = total


@inline_kernel
def obv(close, volume, lo, hi, legacy, sf, work, out):
    """Volume of bars that close up less volume of bars that close down."""
    step = work[0]
    if lo == 0:
        sf[0] = 0.0
        step[0] = 0.0 if legacy else volume[0]
    for t in range(max(lo, 1), hi):
        move = close[t] - close[t - 1]
        v = volume[t] if move > 0.0 else -volume[t]
        # Only a NaN is unequal to itself.
        step[t - lo] = v if move != 0.0 and move == move else (0.0 if move == 0.0 else np.nan)
    _total(step, hi - lo, out, sf)


@inline_kernel
def vpt(close, volume, lo, hi, sf, work, out):
    """Volume times relative price change."""
    step = work[0]
    if lo == 0:
        sf[0] = 0.0
        step[0] = 0.0
    for t in range(max(lo, 1), hi):
        step[t - lo] = volume[t] * ((close[t] - close[t - 1]) / close[t - 1])
    _total(step, hi - lo, out, sf)


@inline_kernel
def ad_line(high, low, close, volume, lo, hi, legacy, sf, work, out):
    """Volume times the place of the close between low (-1) and high (+1); a flat bar adds 0."""
    step = work[0]
    flat = 1e-8 if legacy else 0.0
    for t in range(lo, hi):
        span = high[t] - low[t]
        place = ((close[t] - low[t]) - (high[t] - close[t])) / span
        step[t - lo] = 0.0 if span <= flat else volume[t] * place
    if lo == 0:
        sf[0] = 0.0
        if legacy:
            step[0] = 0.0
    _total(step, hi - lo, out, sf)
