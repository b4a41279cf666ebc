# mypy: ignore-errors
"""MACD: the distance of two exponential means and the exponential mean of that."""

import numpy as np

from tfa_kernels._arithmetic_nb import flushed, fma
from tfa_kernels._jit import inline_kernel
from tfa_kernels._op_nb import column, op_kernel, read, written


@inline_kernel
def _seeded(e, v, t, first, rows, w):
    """An exponential mean of window w after row t, seeded with the mean of rows from first on."""
    if t < first:
        return 0.0
    if t < first + rows:
        e += v
        return e / rows if t == first + rows - 1 else e
    k = 2.0 / (w + 1.0)
    return fma(1.0 - k, e, k * v)


@inline_kernel
def _macd(u, lo, hi):
    """The line into work[0] and its signal into work[1]; a NaN stays in both from its row on.

    legacy: every mean begins with its first value. Else with the mean of its first window: the slow
    one at row 0, the fast one where both windows end together, the signal at the first line; and
    the longer of the two periods is the slow one, whichever way they are given (TA-Lib's rules).
    State: floats = fast mean, slow mean, signal.
    """
    c = column(u, 0)
    sf, x = u.floats[c], read(u, 0, lo, hi)
    fast, slow, signal = (
        np.int64(u.params[c, 0]),
        np.int64(u.params[c, 1]),
        np.int64(u.params[c, 2]),
    )
    fast_rows = slow_rows = signal_rows = 1
    if not u.legacy:
        fast, slow = min(fast, slow), max(fast, slow)
        fast_rows, slow_rows, signal_rows = fast, slow, signal
    ef, es, et = 0.0, 0.0, 0.0
    if lo > 0:
        ef, es, et = sf[0], sf[1], sf[2]
    steady = min(max(lo, slow_rows + signal_rows - 1), hi)
    line, trail = u.work[0, : hi - lo], u.work[1, : hi - lo]
    for t in range(lo, steady):
        ef = _seeded(ef, x[t - lo], t, slow_rows - fast_rows, fast_rows, fast)
        es = _seeded(es, x[t - lo], t, 0, slow_rows, slow)
        et = _seeded(et, ef - es, t, slow_rows - 1, signal_rows, signal)
        line[t - lo] = ef - es
        trail[t - lo] = et
    kf, ks, kt = 2.0 / (fast + 1.0), 2.0 / (slow + 1.0), 2.0 / (signal + 1.0)
    pf, ps, pt = 1.0 - kf, 1.0 - ks, 1.0 - kt
    for r in range(steady - lo, hi - lo):
        v = x[r]
        ef = fma(pf, ef, kf * v)
        es = fma(ps, es, ks * v)
        apart = ef - es
        et = fma(pt, et, kt * apart)
        line[r] = apart
        trail[r] = et
    sf[0], sf[1], sf[2] = flushed(ef), flushed(es), flushed(et)


@op_kernel
def macd_line(u, lo, hi):
    _macd(u, lo, hi)
    line, out = u.work[0, : hi - lo], written(u, 0)
    for r in range(hi - lo):
        out[r] = line[r]


@op_kernel
def macd_signal(u, lo, hi):
    _macd(u, lo, hi)
    signal, out = u.work[1, : hi - lo], written(u, 0)
    for r in range(hi - lo):
        out[r] = signal[r]


@op_kernel
def macd_histogram(u, lo, hi):
    _macd(u, lo, hi)
    line, signal, out = u.work[0, : hi - lo], u.work[1, : hi - lo], written(u, 0)
    for r in range(hi - lo):
        out[r] = line[r] - signal[r]
