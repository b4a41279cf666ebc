# mypy: ignore-errors
"""Rolling mean, and distance from it in rolling standard deviations: four columns side by side.

The sums are those of _rolling_nb.roll to the last bit. Where a lane may need what only roll does (a
rebuild, a row without a value), it walks those rows alone.
"""

import math

import numpy as np

from tfa_kernels._arithmetic_nb import fma as fma1
from tfa_kernels._jit import inline_kernel
from tfa_kernels._lanes_nb import (
    LANES,
    coarse_inverse_roots,
    fma,
    lane,
    lanes,
    negative,
    not_at_least,
    select,
    splat,
    store_rows,
)
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
from tfa_kernels._rolling_nb import HUGE, LOST, RESEED_ROWS, roll

# A window whose standard deviation is at most 1e-8 has the score 0.
LEAST_VARIANCE = 1e-16
# Beyond it a variance does not fit float32, where the square root is begun.
MOST_VARIANCE = 1e36
# Rows that go side by side or, where one of them is not steady, lane by lane.
SEGMENT = 64


@inline_kernel
def _score(distance, squares, inverse):
    """distance / sqrt(variance): a float32 root and one step of Newton's, good to about 1e-14."""
    variance = squares * inverse
    if variance <= LEAST_VARIANCE:
        return 0.0
    if variance > MOST_VARIANCE:
        return distance / math.sqrt(variance)
    coarse = np.float64(np.float32(1.0) / np.sqrt(np.float32(variance)))
    return distance * (coarse * fma1(-(0.5 * variance * coarse), coarse, 1.5))


@inline_kernel
def _scores(distance, variance, coarse):
    root = coarse * fma(negative(splat(0.5) * variance * coarse), coarse, splat(1.5))
    return select(variance > splat(LEAST_VARIANCE), distance * root, splat(0.0))


@inline_kernel
def _step(v, old, shift, inverse, s1, s2, peak):
    """The sums after a row, the mean and the row's distance from it, and the squared distances."""
    new = v - shift
    gone = old - shift
    step = new - gone
    s1 = s1 + step
    s2 = fma(step, new + gone, s2)
    peak = select(s2 > peak, s2, peak)
    offset = s1 * inverse
    return s1, s2, peak, shift + offset, new - offset, fma(negative(s1), offset, s2)


@inline_kernel
def _steady(u):
    """Whether the last row left every lane's sums whole."""
    stale = 0
    for i in range(u.shape[IN_USE]):
        stale += u.ints[column(u, i), 1]
    return stale == 0


@inline_kernel
def _side_by_side(u, lo, hi, at, scores):
    """Rows lo..hi of steady lanes to elements `at` on of their columns.

    Return how many rows are done and the lanes are ready to go on behind: all of them, or those
    before the segment where a row of some lane was not steady after all.
    """
    n, new = hi - lo, read(u, 0, lo, hi)
    unusable = 0
    for r in range(n):
        unusable += 0 if abs(new[r]) < HUGE else 1
    if unusable:
        return 0
    wa, wb, wc, wd = window(u, 0), window(u, 1), window(u, 2), window(u, 3)
    xa, xb = read(u, 0, lo - wa, hi - wa), read(u, 0, lo - wb, hi - wb)
    xc, xd = read(u, 0, lo - wc, hi - wc), read(u, 0, lo - wd, hi - wd)
    a, b, c, d = written(u, 0)[at:], written(u, 1)[at:], written(u, 2)[at:], written(u, 3)[at:]
    inverse = splat(1.0) / windows(u)
    shift, s1, s2, peak = states(u, 0), states(u, 1), states(u, 2), states(u, 3)
    least, most = splat(LOST), splat(MOST_VARIANCE)
    begin = 0
    while begin < n:
        end = min(begin + SEGMENT, n)
        before1, before2, peak_before = s1, s2, peak
        lost = splat(1.0) > splat(1.0)
        whole = end - (end - begin) % LANES
        for r in range(begin, whole, LANES):
            old = lanes(xa[r], xb[r], xc[r], xd[r])
            s1, s2, peak, m0, d0, q0 = _step(splat(new[r]), old, shift, inverse, s1, s2, peak)
            lost = lost | not_at_least(q0, least * peak)
            old = lanes(xa[r + 1], xb[r + 1], xc[r + 1], xd[r + 1])
            s1, s2, peak, m1, d1, q1 = _step(splat(new[r + 1]), old, shift, inverse, s1, s2, peak)
            lost = lost | not_at_least(q1, least * peak)
            old = lanes(xa[r + 2], xb[r + 2], xc[r + 2], xd[r + 2])
            s1, s2, peak, m2, d2, q2 = _step(splat(new[r + 2]), old, shift, inverse, s1, s2, peak)
            lost = lost | not_at_least(q2, least * peak)
            old = lanes(xa[r + 3], xb[r + 3], xc[r + 3], xd[r + 3])
            s1, s2, peak, m3, d3, q3 = _step(splat(new[r + 3]), old, shift, inverse, s1, s2, peak)
            lost = lost | not_at_least(q3, least * peak)
            if scores:
                v0, v1, v2, v3 = q0 * inverse, q1 * inverse, q2 * inverse, q3 * inverse
                c0, c1, c2, c3 = coarse_inverse_roots(v0, v1, v2, v3)
                m0, m1 = _scores(d0, v0, c0), _scores(d1, v1, c1)
                m2, m3 = _scores(d2, v2, c2), _scores(d3, v3, c3)
            store_rows(a, b, c, d, r, m0, m1, m2, m3)
        for r in range(whole, end):
            old = lanes(xa[r], xb[r], xc[r], xd[r])
            s1, s2, peak, m, far, q = _step(splat(new[r]), old, shift, inverse, s1, s2, peak)
            lost = lost | not_at_least(q, least * peak)
            if scores:
                v = q * inverse
                coarse, _, _, _ = coarse_inverse_roots(v, v, v, v)
                m = _scores(far, v, coarse)
            write_lanes(a, b, c, d, r, m)
        # No squares exceed their peak: a larger variance needs a wider root.
        lost = lost | (peak * inverse > most)
        if lane(lost, 0) or lane(lost, 1) or lane(lost, 2) or lane(lost, 3):
            s1, s2, peak = before1, before2, peak_before
            break
        begin = end
    for i in range(LANES):
        sf = u.floats[column(u, i)]
        sf[1], sf[2], sf[3] = lane(s1, i), lane(s2, i), lane(peak, i)
    return begin


@inline_kernel
def _alone(u, i, lo, hi, at, scores):
    """One lane's rows lo..hi to element `at` on of its column."""
    c, w, n = column(u, i), window(u, i), hi - lo
    roll(read(u, 0, u.base, hi), u.base, lo, hi, w, u.floats[c], u.ints[c], u.work)
    mean, distance, squares = u.work[0, :n], u.work[1, :n], u.work[2, :n]
    inverse, out = 1.0 / w, written(u, i)[at : at + n]
    if scores:
        for r in range(n):
            out[r] = _score(distance[r], squares[r], inverse)
    else:
        for r in range(n):
            out[r] = mean[r]


@inline_kernel
def _rolled(u, lo, hi, scores):
    t = lo
    while t < hi:
        # At fixed rows sums are rebuilt, which takes one row; those after it may be steady.
        rebuilt = t % RESEED_ROWS == 0
        stop = t + 1 if rebuilt else min(hi, (t // RESEED_ROWS + 1) * RESEED_ROWS)
        if not rebuilt and _steady(u):
            t += _side_by_side(u, t, stop, t - lo, scores)
            stop = min(stop, t + SEGMENT)
        if t < stop:
            for i in range(u.shape[IN_USE]):
                _alone(u, i, t, stop, t - lo, scores)
        t = stop


@op_kernel
def zwin(u, lo, hi):
    _rolled(u, lo, hi, True)


@op_kernel
def sma(u, lo, hi):
    _rolled(u, lo, hi, False)
