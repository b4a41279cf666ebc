# mypy: ignore-errors
"""Sums over a window of the larger of each value and the row's own floor.

Twice such a sum about the mean, less the window's sum and w means, is the sum of the absolute
deviations. Over integers it is exact, so rows may be taken together however it suits.

Some neighbouring rows have nearly the same floor, and most of their windows in common. Of the
values in common, most lie above all the floors or below all of them: their sum and their number
tell all. What is left, between the floors or not in common, is few enough to be looked at row by
row; or rather by fewer rows again, in the same way.
"""

import numpy as np

from tfa_kernels._jit import inline_kernel

# Rows taken together, largest first.
MANY, FEW = 256, 64
# To narrow fewer values takes longer than to look at them row by row.
WORTH_NARROWING = 128
# What it takes besides 2 w: each value is written behind the last that was kept, kept or not.
SCRATCH = 2 * MANY + 2 * FEW + 2


@inline_kernel
def _each(x, w, n, floor, out):
    """out[r] += sum of max(x[i], floor[r]) over i in r..r+w-1."""
    # Eight to a pass over the rows: they are loaded and stored less often.
    whole = w - w % 8
    for i in range(0, whole, 8):
        v = x[i : i + n + 7]
        for r in range(n):
            f = floor[r]
            out[r] += (
                (max(v[r], f) + max(v[r + 1], f)) + (max(v[r + 2], f) + max(v[r + 3], f))
            ) + ((max(v[r + 4], f) + max(v[r + 5], f)) + (max(v[r + 6], f) + max(v[r + 7], f)))
    if w - whole >= 4:
        v = x[whole : whole + n + 3]
        for r in range(n):
            f = floor[r]
            out[r] += (max(v[r], f) + max(v[r + 1], f)) + (max(v[r + 2], f) + max(v[r + 3], f))
        whole += 4
    for i in range(whole, w):
        v = x[i : i + n]
        for r in range(n):
            out[r] += max(v[r], floor[r])


@inline_kernel
def _always(x, n, floor, out):
    """out[r] += sum of max(v, floor[r]) over the values v of x."""
    whole = x.size - x.size % 8
    for i in range(0, whole, 8):
        a, b, c, d = x[i], x[i + 1], x[i + 2], x[i + 3]
        e, g, h, j = x[i + 4], x[i + 5], x[i + 6], x[i + 7]
        for r in range(n):
            f = floor[r]
            out[r] += ((max(a, f) + max(b, f)) + (max(c, f) + max(d, f))) + (
                (max(e, f) + max(g, f)) + (max(h, f) + max(j, f))
            )
    for i in range(whole, x.size):
        a = x[i]
        for r in range(n):
            out[r] += max(a, floor[r])


@inline_kernel
def _between(x, least, most, kept, k):
    """The sum of values from most on, the number of others up to least; the rest to kept[k] on."""
    high = low = 0
    for i in range(x.size):
        v = x[i]
        high += v if v >= most else 0
        low += 1 if (v <= least) & (v < most) else 0
    # Unsigned: one comparison for two, and no index that might count from the end.
    between = np.uint64(max(most - least, 1) - 1)
    j = np.uint64(k)
    for i in range(x.size):
        v = x[i]
        kept[j] = v
        j += np.uint64(np.uint64(v - least - 1) < between)
    return high, low, np.int64(j)


@inline_kernel
def _apart(x, w, n, rest):
    """What windows have in common; without it they are windows of n over the rest."""
    for i in range(n):
        rest[i] = x[i]
    for i in range(n - 1):
        rest[n + i] = x[w + i]
    return x[n:w]


@inline_kernel
def _narrowed(always, common, n, floor, out, kept):
    """Add what lies beyond all floors; the number of the others, which go to kept."""
    least = most = floor[0]
    for r in range(n):
        least = min(least, floor[r])
        most = max(most, floor[r])
    high, low, k = _between(always, least, most, kept, 0)
    more, further, k = _between(common, least, most, kept, k)
    high += more
    low += further
    for r in range(n):
        out[r] += high + low * floor[r]
    return k


@inline_kernel
def _few(x, w, always, n, floor, out, scratch):
    rest, kept = scratch[: 2 * FEW], scratch[2 * FEW :]
    for a in range(0, n, FEW):
        m = min(FEW, n - a)
        f, o = floor[a : a + m], out[a : a + m]
        common = _apart(x[a:], w, m, rest)
        if always.size + common.size < WORTH_NARROWING:
            _always(always, m, f, o)
            _always(common, m, f, o)
        else:
            k = _narrowed(always, common, m, f, o, kept)
            _always(kept[:k], m, f, o)
        _each(rest, m, m, f, o)


@inline_kernel
def sums_of_larger(x, w, n, floor, out, scratch):
    """out[r] = sum of max(x[i], floor[r]) over i in r..r+w-1, for r < n.

    scratch: 2 w + SCRATCH elements.
    """
    for r in range(n):
        out[r] = 0
    if w < 2 * FEW:
        _each(x, w, n, floor, out)
    elif w < 2 * MANY:
        _few(x, w, x[:0], n, floor, out, scratch)
    else:
        rest, kept = scratch[: 2 * MANY], scratch[2 * MANY :]
        for a in range(0, n, MANY):
            m = min(MANY, n - a)
            f, o = floor[a : a + m], out[a : a + m]
            k = _narrowed(x[:0], _apart(x[a:], w, m, rest), m, f, o, kept)
            _few(rest, m, kept[:k], m, f, o, kept[k + 1 :])
