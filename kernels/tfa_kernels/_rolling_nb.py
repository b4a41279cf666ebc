# mypy: ignore-errors
"""Rolling mean and squared deviations about a moving shift, and the ops made of them."""

import math

import numpy as np

from tfa_kernels._arithmetic_nb import fma
from tfa_kernels._jit import inline_kernel
from tfa_kernels._op_nb import column, op_kernel, read, window, written

# Squares of larger values, summed over a window, could overflow: they count as non-finite.
HUGE = 1e140
RESEED_ROWS = 1024
RESEED_WINDOWS = 4
LOST = 1e-5
# Rows that are walked again one by one where any of them needs a rebuild.
ATTEMPT = 128


@inline_kernel
def reseed(x, i, w):
    # Two passes about the newest value: exact zeros for a flat window, and a shift at the mean.
    total = 0.0
    for j in range(i - w + 1, i + 1):
        total += x[j] - x[i]
    shift = x[i] + total / w
    s1 = 0.0
    s2 = 0.0
    for j in range(i - w + 1, i + 1):
        d = x[j] - shift
        s1 += d
        s2 += d * d
    return shift, s1, s2


@inline_kernel
def roll(x, base, lo, hi, w, sf, si, work):
    """Mean, distance of x from it, and sum of squared distances over rows t-w+1..t, t >= w-1.

    Running sums of x - shift. They are rebuilt at fixed rows, after a non-finite value has left
    the window, and where what is left is small against what went through them (a spike that has
    left, a level that has moved): otherwise the rounding errors of the large would show.

    Row t is x[t - base] and goes to work[:3, t - lo]. State: sf = shift, sum, sum of squares, its
    peak since the last rebuild; si = last row with a non-finite value, whether the sums need
    rebuilding.
    """
    if lo == 0:
        si[0] = -w
        si[1] = 1
    # A multiple of RESEED_ROWS, so that windows of any length are rebuilt at the same rows.
    period = (RESEED_WINDOWS * w + RESEED_ROWS - 1) // RESEED_ROWS * RESEED_ROWS
    t = lo
    while t < hi:
        if t % period == 0:
            si[1] = 1
        stop = min(hi, t + ATTEMPT, (t // period + 1) * period)
        whole = t >= w and t - si[0] >= w
        if whole and si[1]:
            # One row rebuilds the sums; the rows after it may be steady.
            stop = t + 1
        if not whole or si[1] or not _steady_rows(x, t - base, stop - t, w, sf, work, t - lo):
            _rows(x, base, t, stop, w, sf, si, work, t - lo)
        t = stop


@inline_kernel
def _rows(x, base, lo, hi, w, sf, si, work, at):
    """The definition: every row on its own, whatever it holds. Row lo goes to work[:, at]."""
    shift, s1, s2, peak = sf[0], sf[1], sf[2], sf[3]
    last_bad = si[0]
    stale = si[1] != 0
    inverse = 1.0 / w
    for t in range(lo, hi):
        v = x[t - base]
        if not abs(v) < HUGE:
            last_bad = t
        if t < w - 1 or t - last_bad < w:
            stale = True
            work[0, at + t - lo] = np.nan
            work[1, at + t - lo] = np.nan
            work[2, at + t - lo] = np.nan
            continue
        squares = 0.0
        if not stale:
            new = v - shift
            old = x[t - base - w] - shift
            step = new - old
            s1 += step
            s2 = fma(step, new + old, s2)
            peak = max(peak, s2)
            squares = fma(-s1, s1 * inverse, s2)
            stale = squares < LOST * peak
        if stale:
            shift, s1, s2 = reseed(x, t - base, w)
            peak = s2
            squares = fma(-s1, s1 * inverse, s2)
            stale = False
        offset = s1 * inverse
        work[0, at + t - lo] = shift + offset
        work[1, at + t - lo] = (v - shift) - offset
        work[2, at + t - lo] = max(squares, 0.0)
    sf[0], sf[1], sf[2], sf[3] = shift, s1, s2, peak
    si[0] = last_bad
    si[1] = 1 if stale else 0


@inline_kernel
def _steady_rows(x, i, n, w, sf, work, at):
    """The same numbers in three plain loops, where no row needs a rebuild; False where one might.

    Only the middle loop waits for the row before it; the others become vector code.
    """
    shift, s1, s2, peak = sf[0], sf[1], sf[2], sf[3]
    inverse = 1.0 / w
    new = x[i : i + n]
    old = x[i - w : i + n - w]
    first, second, squares = work[0, at : at + n], work[1, at : at + n], work[2, at : at + n]
    unusable = 0
    for r in range(n):
        u = new[r] - shift
        v = old[r] - shift
        first[r] = u - v
        second[r] = u + v
        unusable += 0 if abs(new[r]) < HUGE else 1
    if unusable:
        return False
    for r in range(n):
        step = first[r]
        s1 += step
        s2 = fma(step, second[r], s2)
        first[r] = s1
        second[r] = s2
        peak = max(peak, s2)
    lost = LOST * peak
    for r in range(n):
        s = first[r]
        offset = s * inverse
        q = fma(-s, offset, second[r])
        unusable += 0 if q >= lost else 1
        squares[r] = q
        second[r] = (new[r] - shift) - offset
        first[r] = shift + offset
    if unusable:
        return False
    sf[1], sf[2], sf[3] = s1, s2, peak
    return True


@inline_kernel
def _rolled(u, lo, hi):
    c = column(u, 0)
    x = read(u, 0, u.base, hi)
    roll(x, u.base, lo, hi, window(u, 0), u.floats[c], u.ints[c], u.work)


@inline_kernel
def _std(u, lo, hi):
    """Population std of rolled rows into work[3]; "legacy": of the w rows before each row.

    The std that the next call begins with waits in floats[4]; the first row of a series, which has
    none, lies before every lookback.
    """
    n, w = hi - lo, window(u, 0)
    lag = 1 if u.legacy else 0
    waiting = u.floats[column(u, 0)]
    u.work[3, 0] = waiting[4]
    squares, std = u.work[2, : n - lag], u.work[3, lag:n]
    for r in range(n - lag):
        std[r] = math.sqrt(squares[r] / w)
    waiting[4] = math.sqrt(u.work[2, n - 1] / w)


@op_kernel
def volatility(u, lo, hi):
    _rolled(u, lo, hi)
    _std(u, lo, hi)
    n = hi - lo
    std, out = u.work[3, :n], written(u, 0)
    for r in range(n):
        out[r] = std[r]


@inline_kernel
def _band(u, lo, hi, k):
    """k stds above the mean; "legacy" leaves the row itself out of the std alone."""
    _rolled(u, lo, hi)
    _std(u, lo, hi)
    n = hi - lo
    middle, std, out = u.work[0, :n], u.work[3, :n], written(u, 0)
    for r in range(n):
        out[r] = middle[r] + k * std[r]


@op_kernel
def bollinger_upper(u, lo, hi):
    _band(u, lo, hi, u.params[column(u, 0), 0])


@op_kernel
def bollinger_lower(u, lo, hi):
    _band(u, lo, hi, -u.params[column(u, 0), 0])


@inline_kernel
def _rolling_root(u, lo, hi, divisor):
    """sqrt(mean / divisor), 0 where the mean is negative."""
    _rolled(u, lo, hi)
    n = hi - lo
    mean, out = u.work[0, :n], written(u, 0)
    for r in range(n):
        square = mean[r] / divisor
        out[r] = 0.0 if square < 0.0 else math.sqrt(square)


@op_kernel
def parkinson(u, lo, hi):
    _rolling_root(u, lo, hi, 4.0 * math.log(2.0))


@op_kernel
def garman_klass(u, lo, hi):
    _rolling_root(u, lo, hi, 1.0)
