# mypy: ignore-errors
"""Ops of one bar, or of it and the bar before."""

from tfa_kernels._jit import inline_kernel


@inline_kernel
def spread_bp(high, low, lo, hi, out):
    for t in range(lo, hi):
        middle = (high[t] + low[t]) / 2.0
        out[t - lo] = 1e4 * (high[t] - low[t]) / middle if middle > 1e-8 else 0.0
