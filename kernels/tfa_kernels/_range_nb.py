# mypy: ignore-errors
"""Wilder's true range and directional movement.

J. Welles Wilder, New Concepts in Technical Trading Systems, 1978. A non-finite price makes the
average NaN from there on.
"""

from tfa_kernels._arithmetic_nb import flushed, fma
from tfa_kernels._jit import inline_kernel
from tfa_kernels._op_nb import column, op_kernel, read, window, written

# Sums are flushed to zero at the end of a call, each on its own: their ratio counts only where all
# that could be flushed is far below rounding.
VANISHED = 1e-250


@inline_kernel
def _true_range(u, lo, hi, out):
    """True ranges of rows lo..hi, lo >= 1, from out[0] on."""
    h, s, before = read(u, 0, lo, hi), read(u, 1, lo, hi), read(u, 2, lo - 1, hi - 1)
    for r in range(hi - lo):
        a, b, c = h[r] - s[r], abs(h[r] - before[r]), abs(s[r] - before[r])
        most = a if a > b else b
        most = most if most > c else c
        # A comparison drops a NaN: zero times it brings it back.
        out[r] = most + 0.0 * (a + b + c)


@op_kernel
def atr(u, lo, hi):
    """Wilder's mean of the true range, from the mean of rows 1..w at w on. State: floats[0]."""
    w, sf, out = window(u, 0), u.floats[column(u, 0)], written(u, 0)
    if lo == 0:
        sf[0] = 0.0
    first = max(lo, 1)
    ranges = u.work[0]
    _true_range(u, first, hi, ranges)
    at = first - lo
    start = min(max(w + 1, first), hi) - first
    mean = sf[0]
    for r in range(start):
        mean += ranges[r]
        if first + r == w:
            mean /= w
        out[at + r] = mean
    inverse = 1.0 / w
    keep = 1.0 - inverse
    for r in range(start, hi - first):
        mean = fma(keep, mean, inverse * ranges[r])
        out[at + r] = mean
    sf[0] = flushed(mean)


@inline_kernel
def _movements(u, lo, hi, plus, minus):
    """Directional movements of rows lo..hi, lo >= 1."""
    h, h_before = read(u, 0, lo, hi), read(u, 0, lo - 1, hi - 1)
    s, s_before = read(u, 1, lo, hi), read(u, 1, lo - 1, hi - 1)
    for r in range(hi - lo):
        up = h[r] - h_before[r]
        down = s_before[r] - s[r]
        plus[r] = up if up > down and up > 0.0 else 0.0
        minus[r] = down if down > up and down > 0.0 else 0.0


@inline_kernel
def _smoothed(first, rows, w, seed, sf, plus, minus, ranges):
    """Wilder's sums in place: plain sums through row seed, then S - S / w + v."""
    keep = 1.0 - 1.0 / w
    p, m, s = sf[0], sf[1], sf[2]
    start = min(max(seed + 1 - first, 0), rows)
    for r in range(start):
        p += plus[r]
        m += minus[r]
        s += ranges[r]
        plus[r], minus[r], ranges[r] = p, m, s
    for r in range(start, rows):
        p = fma(keep, p, plus[r])
        m = fma(keep, m, minus[r])
        s = fma(keep, s, ranges[r])
        plus[r], minus[r], ranges[r] = p, m, s
    sf[0], sf[1], sf[2] = flushed(p), flushed(m), flushed(s)


@inline_kernel
def _index(plus, minus, ranges, n, zero, undefined, out):
    """100 |P - M| / (P + M) of the indicators P = 100 plus / ranges and M."""
    for r in range(n):
        p = 100.0 * (plus[r] / ranges[r])
        m = 100.0 * (minus[r] / ranges[r])
        dx = 100.0 * (abs(p - m) / (p + m))
        out[r] = undefined if ranges[r] < zero or plus[r] + minus[r] < zero else dx


@op_kernel
def adx(u, lo, hi):
    """legacy: the directional index itself, 0 where ranges or movements sum to less than 1e-8.

    Otherwise Wilder's mean of it, the first over rows w..2w-1; a row without an index (a sum that
    is zero or has decayed to VANISHED) adds nothing to the first and leaves later ones as they are.
    State: floats[:3], the sums, and floats[3], the mean.
    """
    w, sf, out = window(u, 0), u.floats[column(u, 0)], written(u, 0)
    if lo == 0:
        sf[:4] = 0.0
    first = max(lo, 1)
    rows = hi - first
    plus, minus, ranges, dx = u.work[0], u.work[1], u.work[2], u.work[3]
    _movements(u, first, hi, plus, minus)
    _true_range(u, first, hi, ranges)
    _smoothed(first, rows, w, w if u.legacy else w - 1, sf, plus, minus, ranges)
    at = first - lo
    if u.legacy:
        _index(plus, minus, ranges, rows, 1e-8, 0.0, out[at:])
        return
    _index(plus, minus, ranges, rows, VANISHED, -1.0, dx)
    inverse = 1.0 / w
    keep = 1.0 - inverse
    mean = sf[3]
    for r in range(rows):
        t = first + r
        defined = not dx[r] < 0.0
        if t >= 2 * w:
            mean = fma(keep, mean, inverse * dx[r]) if defined else mean
        elif t >= w:
            mean += dx[r] if defined else 0.0
            if t == 2 * w - 1:
                mean /= w
        out[at + r] = mean
    sf[3] = flushed(mean)
