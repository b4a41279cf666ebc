# mypy: ignore-errors
"""Ops whose row needs the row before it: four columns side by side."""

import numpy as np

from tfa_kernels._arithmetic_nb import flushed
from tfa_kernels._arithmetic_nb import fma as fma1
from tfa_kernels._jit import inline_kernel
from tfa_kernels._lanes_nb import LANES, fma, lane, select, splat, store_rows
from tfa_kernels._op_nb import (
    IN_USE,
    column,
    op_kernel,
    read,
    states,
    window,
    windows,
    write_lanes,
    written,
)

# No smaller mean loss ("legacy": more than 1e-12) or mean move ("talib", TA-Lib 0.8.1) counts.
LEAST_LOSS = np.nextafter(1e-12, 1.0)
LEAST_MOVE = 1e-14


@inline_kernel
def _longest_window(u):
    w = window(u, 0)
    for i in range(1, LANES):
        w = max(w, window(u, i))
    return w


@inline_kernel
def _ema_start(x, lo, hi, w, seed, sf, out):
    """Rows up to the seed and the few after it that other lanes still need for theirs."""
    k = 2.0 / (w + 1.0)
    keep = 1.0 - k
    e = sf[0] if lo > 0 else 0.0
    for r in range(hi - lo):
        if lo + r <= seed:
            e += x[r]
            if lo + r == seed:
                e /= seed + 1.0
        else:
            e = fma1(keep, e, k * x[r])
        out[r] = e
    sf[0] = e


@op_kernel
def ema(u, lo, hi):
    """State: floats[0]. "legacy" begins with the first value, "talib" with the first mean."""
    steady = min(max(lo, 1 if u.legacy else _longest_window(u)), hi)
    if steady > lo:
        for i in range(u.shape[IN_USE]):
            w, sf = window(u, i), u.floats[column(u, i)]
            x = read(u, 0, lo, steady)
            _ema_start(x, lo, steady, w, 0 if u.legacy else w - 1, sf, written(u, i))
    one = splat(1.0)
    k = splat(2.0) / (windows(u) + one)
    keep = one - k
    e = states(u, 0)
    x, n, at = read(u, 0, steady, hi), hi - steady, steady - lo
    a, b, c, d = written(u, 0)[at:], written(u, 1)[at:], written(u, 2)[at:], written(u, 3)[at:]
    whole = n - n % LANES
    for r in range(0, whole, LANES):
        e0 = fma(keep, e, k * splat(x[r]))
        e1 = fma(keep, e0, k * splat(x[r + 1]))
        e2 = fma(keep, e1, k * splat(x[r + 2]))
        e = fma(keep, e2, k * splat(x[r + 3]))
        store_rows(a, b, c, d, r, e0, e1, e2, e)
    for r in range(whole, n):
        e = fma(keep, e, k * splat(x[r]))
        write_lanes(a, b, c, d, r, e)
    for i in range(LANES):
        u.floats[column(u, i), 0] = flushed(lane(e, i))


@inline_kernel
def _gain_loss(u, lo, hi, gain, loss):
    """max(d, 0) and max(-d, 0) of the differences, exactly, but a NaN stays a NaN."""
    now, before = read(u, 0, lo, hi), read(u, 0, lo - 1, hi - 1)
    for r in range(hi - lo):
        d = now[r] - before[r]
        gain[r] = 0.5 * (abs(d) + d)
        loss[r] = 0.5 * (abs(d) - d)


@inline_kernel
def _rsi_start(gain, loss, first, rows, w, legacy, sf, out):
    """Rows up to w, where sums become means, and the few after it that other lanes still need."""
    inverse = 1.0 / w
    keep = 1.0 - inverse
    up, down = sf[0], sf[1]
    for r in range(rows):
        t = first + r
        if t > w:
            up = fma1(keep, up, inverse * gain[r])
            down = fma1(keep, down, inverse * loss[r])
        else:
            up += gain[r]
            down += loss[r]
            if t == w:
                up /= w
                down /= w
        moved = up + down
        if legacy:
            out[r] = 0.0 if down < LEAST_LOSS else 100.0 * (up / moved)
        else:
            out[r] = 0.0 if moved < LEAST_MOVE else 100.0 * (up / moved)
    sf[0], sf[1] = up, down


@inline_kernel
def _wilder(up, down, keep, inverse, gain, loss):
    return fma(keep, up, inverse * splat(gain)), fma(keep, down, inverse * splat(loss))


@inline_kernel
def _index(up, down, legacy):
    """100 up / (up + down): the same as 100 - 100 / (1 + up / down), with one division."""
    moved = up + down
    # The conventions differ in what must be there: a loss, or any move. A NaN is not less.
    none = splat(LEAST_LOSS) > down if legacy else splat(LEAST_MOVE) > moved
    return select(none, splat(0.0), splat(100.0) * (up / moved))


@op_kernel
def rsi(u, lo, hi):
    """Wilder's index. State: floats[:2], the means of gains and losses."""
    first = max(lo, 1)
    n = hi - first
    if lo == 0:
        for i in range(u.shape[IN_USE]):
            written(u, i)[0] = 0.0
            u.floats[column(u, i), :2] = 0.0
    gain, loss = u.work[0, :n], u.work[1, :n]
    _gain_loss(u, first, hi, gain, loss)
    steady = min(max(first, _longest_window(u) + 1), hi) - first
    if steady > 0:
        for i in range(u.shape[IN_USE]):
            w, sf, out = window(u, i), u.floats[column(u, i)], written(u, i)[first - lo :]
            _rsi_start(gain, loss, first, steady, w, u.legacy, sf, out)
    one = splat(1.0)
    inverse = one / windows(u)
    keep = one - inverse
    up, down = states(u, 0), states(u, 1)
    at = first - lo
    a, b, c, d = written(u, 0)[at:], written(u, 1)[at:], written(u, 2)[at:], written(u, 3)[at:]
    whole = n - (n - steady) % LANES
    for r in range(steady, whole, LANES):
        up0, down0 = _wilder(up, down, keep, inverse, gain[r], loss[r])
        up1, down1 = _wilder(up0, down0, keep, inverse, gain[r + 1], loss[r + 1])
        up2, down2 = _wilder(up1, down1, keep, inverse, gain[r + 2], loss[r + 2])
        up, down = _wilder(up2, down2, keep, inverse, gain[r + 3], loss[r + 3])
        store_rows(
            a, b, c, d, r, _index(up0, down0, u.legacy), _index(up1, down1, u.legacy),
            _index(up2, down2, u.legacy), _index(up, down, u.legacy),
        )  # fmt: skip
    for r in range(whole, n):
        up, down = _wilder(up, down, keep, inverse, gain[r], loss[r])
        write_lanes(a, b, c, d, r, _index(up, down, u.legacy))
    for i in range(LANES):
        f = u.floats[column(u, i)]
        f[0], f[1] = flushed(lane(up, i)), flushed(lane(down, i))
