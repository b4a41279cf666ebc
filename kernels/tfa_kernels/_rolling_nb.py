# mypy: ignore-errors
"""Rolling mean and squared deviations about a moving shift, and the ops made of them."""

import math

import numpy as np

from tfa_kernels._jit import inline_kernel

# Squares of larger values, summed over a window, could overflow: they count as non-finite.
HUGE = 1e140
RESEED_ROWS = 1024
RESEED_WINDOWS = 4
LOST = 1e-5


@inline_kernel
def reseed(x, t, w):
    # Two passes about the newest value: exact zeros for a flat window, and a shift at the mean.
    total = 0.0
    for j in range(t - w + 1, t + 1):
        total += x[j] - x[t]
    shift = x[t] + total / w
    s1 = 0.0
    s2 = 0.0
    for j in range(t - w + 1, t + 1):
        d = x[j] - shift
        s1 += d
        s2 += d * d
    return shift, s1, s2


@inline_kernel
def roll(x, lo, hi, w, sf, si, work):
    """Mean, distance of x from it, and sum of squared distances over x[t-w+1..t], t >= w-1.

    Running sums of x - shift. They are rebuilt at fixed rows, after a non-finite value has left
    the window, and where what is left is small against what went through them (a spike that has
    left, a level that has moved): otherwise the rounding errors of the large would show.

    Row t goes to work[:, t - lo]. State: sf = shift, sum, sum of squares, its peak since the last
    rebuild; si = last row with a non-finite value, whether the sums need rebuilding.
    """
    if lo == 0:
        si[0] = -w
        si[1] = 1
    period = max(RESEED_ROWS, RESEED_WINDOWS * w)
    t = lo
    while t < hi:
        if t % period == 0:
            si[1] = 1
        stop = min(hi, (t // period + 1) * period)
        whole = t >= w and t - si[0] >= w
        if whole and si[1]:
            # One row rebuilds the sums; the rows after it may be steady.
            stop = t + 1
        if not whole or si[1] or not _steady_rows(x, t, stop, w, sf, work, t - lo):
            _rows(x, t, stop, w, sf, si, work, t - lo)
        t = stop


@inline_kernel
def _rows(x, lo, hi, w, sf, si, work, at):
    """The definition: every row on its own, whatever it holds. Row lo goes to work[:, at]."""
    shift, s1, s2, peak = sf[0], sf[1], sf[2], sf[3]
    last_bad = si[0]
    stale = si[1] != 0
    inverse = 1.0 / w
    for t in range(lo, hi):
        v = x[t]
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
            old = x[t - w] - shift
            s1 += new - old
            s2 += new * new - old * old
            peak = max(peak, s2)
            squares = s2 - s1 * (s1 * inverse)
            stale = squares < LOST * peak
        if stale:
            shift, s1, s2 = reseed(x, t, w)
            peak = s2
            squares = s2 - s1 * (s1 * inverse)
            stale = False
        offset = s1 * inverse
        work[0, at + t - lo] = shift + offset
        work[1, at + t - lo] = (v - shift) - offset
        work[2, at + t - lo] = max(squares, 0.0)
    sf[0], sf[1], sf[2], sf[3] = shift, s1, s2, peak
    si[0] = last_bad
    si[1] = 1 if stale else 0


@inline_kernel
def _steady_rows(x, lo, hi, w, sf, work, at):
    """The same numbers in three plain loops, where no row needs a rebuild; False where one might.

    Only the middle loop waits for the row before it; the others become vector code.
    """
    shift, s1, s2, peak = sf[0], sf[1], sf[2], sf[3]
    inverse = 1.0 / w
    n = hi - lo
    new = x[lo:hi]
    old = x[lo - w : hi - w]
    first, second, squares = work[0, at : at + n], work[1, at : at + n], work[2, at : at + n]
    unusable = 0
    for r in range(n):
        u = new[r] - shift
        v = old[r] - shift
        first[r] = u - v
        second[r] = u * u - v * v
        unusable += 0 if abs(new[r]) < HUGE else 1
    if unusable:
        return False
    for r in range(n):
        s1 += first[r]
        s2 += second[r]
        first[r] = s1
        second[r] = s2
        peak = max(peak, s2)
    lost = LOST * peak
    for r in range(n):
        s = first[r]
        offset = s * inverse
        q = second[r] - s * offset
        unusable += 0 if q >= lost else 1
        squares[r] = q
        second[r] = (new[r] - shift) - offset
        first[r] = shift + offset
    if unusable:
        return False
    sf[1], sf[2], sf[3] = s1, s2, peak
    return True


@inline_kernel
def sma(x, lo, hi, w, sf, si, work, out):
    roll(x, lo, hi, w, sf, si, work)
    n = hi - lo
    mean = work[0, :n]
    for r in range(n):
        out[r] = mean[r]


@inline_kernel
def zwin(x, lo, hi, w, sf, si, work, out):
    roll(x, lo, hi, w, sf, si, work)
    n = hi - lo
    distance, squares = work[1, :n], work[2, :n]
    for r in range(n):
        std = math.sqrt(squares[r] / w)
        out[r] = 0.0 if std <= 1e-8 else distance[r] / std


@inline_kernel
def _std(n, w, lagged, sf, work):
    """Population std of rolled rows into work[3, :n].

    lagged: of the w rows before each row. The std that the next tile begins with waits in sf[4];
    the first row of a series, which has none, lies before every lookback.
    """
    lag = 1 if lagged else 0
    work[3, 0] = sf[4]
    squares, std = work[2, : n - lag], work[3, lag:n]
    for r in range(n - lag):
        std[r] = math.sqrt(squares[r] / w)
    sf[4] = math.sqrt(work[2, n - 1] / w)


@inline_kernel
def volatility(x, lo, hi, w, lagged, sf, si, work, out):
    roll(x, lo, hi, w, sf, si, work)
    n = hi - lo
    _std(n, w, lagged, sf, work)
    std = work[3, :n]
    for r in range(n):
        out[r] = std[r]


@inline_kernel
def bollinger(x, lo, hi, w, lagged, k, sf, si, work, out):
    """The band k stds above the mean; lagged leaves the row itself out of the std alone."""
    roll(x, lo, hi, w, sf, si, work)
    n = hi - lo
    _std(n, w, lagged, sf, work)
    middle, std = work[0, :n], work[3, :n]
    for r in range(n):
        out[r] = middle[r] + k * std[r]


@inline_kernel
def rolling_root(x, lo, hi, w, divisor, sf, si, work, out):
    """sqrt(mean / divisor), 0 where the mean is negative."""
    roll(x, lo, hi, w, sf, si, work)
    n = hi - lo
    mean = work[0, :n]
    for r in range(n):
        square = mean[r] / divisor
        out[r] = 0.0 if square < 0.0 else math.sqrt(square)
