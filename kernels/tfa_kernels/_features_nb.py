# mypy: ignore-errors
"""Feature kernels: pure loops, no validation.

A series is walked in tiles of TILE rows. In a tile every op advances its own state and leaves its
column in a contiguous scratch row; then the tile's rows go out together, in row order.

An op is one function (x, lo, hi, w, legacy, sf, si, work, out): it consumes rows lo..hi of the
series x, keeps what it needs in the float64 sf and the int64 si between tiles, may use the rows of
work, and leaves row t in out[t - lo]. lo == 0 starts a series. Rows before the op's lookback are
overwritten by the caller, so an op may leave anything there.
"""

import math

import numpy as np
from numba import prange

from tfa_kernels._jit import inline_kernel, parallel_kernel

IDENT, LOGRET, SMA, EMA, RSI, ZWIN = range(6)

TILE = 512
# A power-of-two stride would put one row of all scratch columns into the same cache sets.
SCRATCH_STRIDE = TILE + 16
LOG_BLOCK = 4096
N_FLOATS = 4
N_INTS = 2
N_WORK = 3

PRICE_FLOOR = 1e-12
# Squares of larger values, summed over a window, could overflow: they count as non-finite.
HUGE = 1e140
# States that decay below this are set to zero: denormal arithmetic is about 100 times slower.
TINY = 1e-290
RESEED_ROWS = 1024
RESEED_WINDOWS = 4
LOST = 1e-3


@inline_kernel
def _log(v, legacy):
    if v < PRICE_FLOOR:
        v = PRICE_FLOOR
    y = math.log(v)
    if legacy:
        y = np.float64(np.float32(y))
    return y


@inline_kernel
def _ident(x, lo, hi, out):
    for t in range(lo, hi):
        out[t - lo] = x[t]


@inline_kernel
def _logret(x, lo, hi, legacy, sf, out):
    last = sf[0]
    for t in range(lo, hi):
        now = _log(x[t], legacy)
        out[t - lo] = now - last
        last = now
    sf[0] = last


@inline_kernel
def _ema(x, lo, hi, w, legacy, sf, out):
    k = 2.0 / (w + 1.0)
    keep = 1.0 - k
    seed = 0 if legacy else w - 1
    e = sf[0] if lo > 0 else 0.0
    for t in range(lo, min(hi, seed + 1)):
        e += x[t]
        if t == seed:
            e /= seed + 1.0
            out[t - lo] = e
    for t in range(max(lo, seed + 1), hi):
        e = k * x[t] + keep * e
        out[t - lo] = e
    if abs(e) < TINY:
        e = 0.0
    sf[0] = e


@inline_kernel
def _rsi(x, lo, hi, w, legacy, sf, work, out):
    inverse = 1.0 / w
    keep = 1.0 - inverse
    up = sf[0] if lo > 0 else 0.0
    down = sf[1] if lo > 0 else 0.0
    if lo == 0:
        work[0, 0] = 0.0
        work[1, 0] = 0.0
    for t in range(max(lo, 1), hi):
        d = x[t] - x[t - 1]
        # max(d, 0) and max(-d, 0), exactly, but a NaN stays a NaN.
        gain = 0.5 * (abs(d) + d)
        loss = 0.5 * (abs(d) - d)
        if t > w:
            up = keep * up + inverse * gain
            down = keep * down + inverse * loss
        else:
            up += gain
            down += loss
            if t == w:
                up /= w
                down /= w
        work[0, t - lo] = up
        work[1, t - lo] = down
    if up < TINY:
        up = 0.0
    if down < TINY:
        down = 0.0
    sf[0] = up
    sf[1] = down
    if legacy:
        for r in range(hi - lo):
            rs = 0.0 if work[1, r] <= 1e-12 else work[0, r] / work[1, r]
            out[r] = 100.0 - 100.0 / (1.0 + rs)
    else:
        for r in range(hi - lo):
            moved = work[0, r] + work[1, r]
            out[r] = 0.0 if moved < 1e-14 else 100.0 * (work[0, r] / moved)


@inline_kernel
def _reseed(x, t, w):
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
def _roll(x, lo, hi, w, sf, si, work):
    """Mean, distance of x from it, and sum of squared distances over x[t-w+1..t], t >= w-1.

    Running sums of x - shift. They are rebuilt at fixed rows, after a non-finite value has left
    the window, and where what is left is small against what went through them (a spike that has
    left, a level that has moved): otherwise the rounding errors of the large would show.
    """
    if lo == 0:
        si[0] = -w  # the last row with a non-finite value
        si[1] = 1  # the sums need rebuilding
    shift, s1, s2, peak = sf[0], sf[1], sf[2], sf[3]
    last_bad = si[0]
    stale = si[1] != 0
    inverse = 1.0 / w
    period = max(RESEED_ROWS, RESEED_WINDOWS * w)
    due = (lo + period - 1) // period * period
    for t in range(lo, hi):
        v = x[t]
        if not abs(v) < HUGE:
            last_bad = t
        if t == due:
            due += period
            stale = True
        if t < w - 1 or t - last_bad < w:
            stale = True
            work[0, t - lo] = np.nan
            work[1, t - lo] = np.nan
            work[2, t - lo] = np.nan
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
            shift, s1, s2 = _reseed(x, t, w)
            peak = s2
            squares = s2 - s1 * (s1 * inverse)
            stale = False
        offset = s1 * inverse
        work[0, t - lo] = shift + offset
        work[1, t - lo] = (v - shift) - offset
        work[2, t - lo] = max(squares, 0.0)
    sf[0], sf[1], sf[2], sf[3] = shift, s1, s2, peak
    si[0] = last_bad
    si[1] = 1 if stale else 0


@inline_kernel
def _sma(x, lo, hi, w, sf, si, work, out):
    _roll(x, lo, hi, w, sf, si, work)
    for r in range(hi - lo):
        out[r] = work[0, r]


@inline_kernel
def _zwin(x, lo, hi, w, sf, si, work, out):
    _roll(x, lo, hi, w, sf, si, work)
    for r in range(hi - lo):
        std = math.sqrt(work[2, r] / w)
        out[r] = 0.0 if std <= 1e-8 else work[1, r] / std


@inline_kernel
def _advance(code, x, lo, hi, w, legacy, sf, si, work, out):
    if code == IDENT:
        _ident(x, lo, hi, out)
    elif code == LOGRET:
        _logret(x, lo, hi, legacy, sf, out)
    elif code == SMA:
        _sma(x, lo, hi, w, sf, si, work, out)
    elif code == EMA:
        _ema(x, lo, hi, w, legacy, sf, out)
    elif code == RSI:
        _rsi(x, lo, hi, w, legacy, sf, work, out)
    elif code == ZWIN:
        _zwin(x, lo, hi, w, sf, si, work, out)


@inline_kernel
def _series(
    src, start, stop, c0, c1, plan, legacy, fill, emit, pad, scratch, floats, ints, work, out
):
    """Columns c0..c1 of one series, rows start..stop of src and out."""
    for lo in range(0, stop - start, TILE):
        hi = min(lo + TILE, stop - start)
        for c in range(c0, c1):
            code, source, w, begin, lookback = plan[c]
            column = scratch[c - c0]
            if hi > begin:
                x = src[source, start + begin : stop]
                a = max(lo - begin, 0)
                _advance(
                    code, x, a, hi - begin, w, legacy, floats[c], ints[c], work,
                    column[a + begin - lo :],
                )  # fmt: skip
            for t in range(lo, min(hi, lookback)):
                column[t - lo] = fill
            for t in range(lo, min(hi, emit)):
                column[t - lo] = pad
        for t in range(lo, hi):
            for c in range(c0, c1):
                out[start + t, c] = scratch[c - c0, t - lo]


@inline_kernel
def _share(src, offsets, tasks, first, last, plan, legacy, fill, emit, pad, out):
    n = plan.shape[0]
    scratch = np.empty((n, SCRATCH_STRIDE), np.float32)
    floats = np.zeros((n, N_FLOATS), np.float64)
    ints = np.zeros((n, N_INTS), np.int64)
    work = np.empty((N_WORK, TILE), np.float64)
    for k in range(first, last):
        s, c0, c1 = tasks[k]
        _series(
            src, offsets[s], offsets[s + 1], c0, c1, plan, legacy, fill, emit, pad,
            scratch, floats, ints, work, out,
        )  # fmt: skip


@parallel_kernel
def features(src, offsets, tasks, shares, plan, legacy, fill, emit, pad, out):
    """Fill out [N, F] float32.

    src [sources, N] float64; offsets [S + 1]; tasks rows are (series, first column, column end);
    worker k does tasks shares[k]..shares[k + 1]; plan rows are (op code, source row, window, first
    row of the source, lookback). All integers are int64.
    """
    for k in prange(shares.size - 1):
        worker = np.int64(k)
        _share(
            src, offsets, tasks, shares[worker], shares[worker + 1], plan, legacy, fill, emit, pad,
            out,
        )  # fmt: skip


@parallel_kernel
def log_returns(close, legacy, out):
    """out[i] = ln close[i] - ln close[i - 1] for i >= 1, out[0] = 0, without regard to series."""
    # Fixed blocks: their edges, and so any vector remainder, do not depend on the thread count.
    for b in prange((close.size + LOG_BLOCK - 1) // LOG_BLOCK):
        lo = np.int64(b) * LOG_BLOCK
        last = _log(close[max(lo - 1, 0)], legacy)
        for i in range(lo, min(lo + LOG_BLOCK, close.size)):
            now = _log(close[i], legacy)
            step = now - last
            out[i] = np.float64(np.float32(step)) if legacy else step
            last = now
