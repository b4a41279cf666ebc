# mypy: ignore-errors
"""MACD: the distance of two exponential means and the exponential mean of that."""

from tfa_kernels._jit import inline_kernel
from tfa_kernels._recursive_nb import flushed


@inline_kernel
def _seeded(e, v, t, first, rows, w):
    """An exponential mean of window w after row t, seeded with the mean of rows from first on."""
    if t < first:
        return 0.0
    if t < first + rows:
        e += v
        return e / rows if t == first + rows - 1 else e
    k = 2.0 / (w + 1.0)
    return k * v + (1.0 - k) * e


@inline_kernel
def macd(x, lo, hi, legacy, fast, slow, signal, sf, work):
    """The line into work[0] and its signal into work[1]; a NaN stays in both from its row on.

    legacy: every mean begins with its first value. Else with the mean of its first window: the slow
    one at row 0, the fast one where both windows end together, the signal at the first line; and
    the longer of the two periods is the slow one, whichever way they are given (TA-Lib's rules).
    State: sf = fast mean, slow mean, signal.
    """
    fast_rows = slow_rows = signal_rows = 1
    if not legacy:
        fast, slow = min(fast, slow), max(fast, slow)
        fast_rows, slow_rows, signal_rows = fast, slow, signal
    ef, es, et = 0.0, 0.0, 0.0
    if lo > 0:
        ef, es, et = sf[0], sf[1], sf[2]
    steady = min(max(lo, slow_rows + signal_rows - 1), hi)
    line, trail = work[0, : hi - lo], work[1, : hi - lo]
    for t in range(lo, steady):
        ef = _seeded(ef, x[t], t, slow_rows - fast_rows, fast_rows, fast)
        es = _seeded(es, x[t], t, 0, slow_rows, slow)
        et = _seeded(et, ef - es, t, slow_rows - 1, signal_rows, signal)
        line[t - lo] = ef - es
        trail[t - lo] = et
    kf, ks, kt = 2.0 / (fast + 1.0), 2.0 / (slow + 1.0), 2.0 / (signal + 1.0)
    pf, ps, pt = 1.0 - kf, 1.0 - ks, 1.0 - kt
    for r in range(steady - lo, hi - lo):
        v = x[lo + r]
        ef = kf * v + pf * ef
        es = ks * v + ps * es
        apart = ef - es
        et = kt * apart + pt * et
        line[r] = apart
        trail[r] = et
    sf[0], sf[1], sf[2] = flushed(ef), flushed(es), flushed(et)


@inline_kernel
def macd_out(n, histogram, signal, work, out):
    line, trail = work[0, :n], work[1, :n]
    if histogram:
        for r in range(n):
            out[r] = line[r] - trail[r]
        return
    values = trail if signal else line
    for r in range(n):
        out[r] = values[r]
