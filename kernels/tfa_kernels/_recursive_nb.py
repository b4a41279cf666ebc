# mypy: ignore-errors
"""Ops whose row needs the row before it: four columns side by side.

A recursion waits for its own last multiply and add, so one column alone leaves the core idle most
of the time. Four columns over one source fill it. A unit of n < 4 columns repeats its last one.
"""

from tfa_kernels._jit import inline_kernel

# States that decay below this are set to zero: denormal arithmetic is about 100 times slower.
TINY = 1e-290


@inline_kernel
def flushed(value):
    return 0.0 if abs(value) < TINY else value


@inline_kernel
def _ema_start(x, lo, hi, w, seed, sf, out):
    """Rows up to the seed and the few after it that other lanes still need for theirs."""
    k = 2.0 / (w + 1.0)
    keep = 1.0 - k
    e = sf[0] if lo > 0 else 0.0
    for t in range(lo, hi):
        if t <= seed:
            e += x[t]
            if t == seed:
                e /= seed + 1.0
        else:
            e = k * x[t] + keep * e
        out[t - lo] = e
    sf[0] = e


@inline_kernel
def ema4(x, lo, hi, legacy, n, w, lanes, floats, out, at):
    """Exponential means of windows w[4] from out[lanes[4], at] on; state in floats[lane, 0]."""
    a, b, c, d = lanes[0], lanes[1], lanes[2], lanes[3]
    steady = lo
    if not legacy:
        steady = min(max(lo, w[0], w[1], w[2], w[3]), hi)
    elif lo == 0:
        steady = min(1, hi)
    if steady > lo:
        for i in range(n):
            seed = 0 if legacy else w[i] - 1
            _ema_start(x, lo, steady, w[i], seed, floats[lanes[i]], out[lanes[i], at:])
    ka, kb, kc, kd = 2.0 / (w[0] + 1.0), 2.0 / (w[1] + 1.0), 2.0 / (w[2] + 1.0), 2.0 / (w[3] + 1.0)
    pa, pb, pc, pd = 1.0 - ka, 1.0 - kb, 1.0 - kc, 1.0 - kd
    ea, eb, ec, ed = floats[a, 0], floats[b, 0], floats[c, 0], floats[d, 0]
    v = x[steady:hi]
    at += steady - lo
    ra, rb, rc, rd = out[a, at:], out[b, at:], out[c, at:], out[d, at:]
    for r in range(hi - steady):
        ea = ka * v[r] + pa * ea
        eb = kb * v[r] + pb * eb
        ec = kc * v[r] + pc * ec
        ed = kd * v[r] + pd * ed
        ra[r] = ea
        rb[r] = eb
        rc[r] = ec
        rd[r] = ed
    floats[a, 0], floats[b, 0] = flushed(ea), flushed(eb)
    floats[c, 0], floats[d, 0] = flushed(ec), flushed(ed)


@inline_kernel
def _gain_loss(x, lo, hi, gain, loss):
    """max(d, 0) and max(-d, 0) of the differences, exactly, but a NaN stays a NaN."""
    now = x[lo:hi]
    before = x[lo - 1 : hi - 1]
    for r in range(hi - lo):
        d = now[r] - before[r]
        gain[r] = 0.5 * (abs(d) + d)
        loss[r] = 0.5 * (abs(d) - d)


@inline_kernel
def _wilder_start(gain, loss, first, rows, w, sf, up_row, down_row):
    """Rows up to w, where sums become means, and the few after it that other lanes still need."""
    inverse = 1.0 / w
    keep = 1.0 - inverse
    up = sf[0] if first > 1 else 0.0
    down = sf[1] if first > 1 else 0.0
    for r in range(rows):
        t = first + r
        if t > w:
            up = keep * up + inverse * gain[r]
            down = keep * down + inverse * loss[r]
        else:
            up += gain[r]
            down += loss[r]
            if t == w:
                up /= w
                down /= w
        up_row[r] = up
        down_row[r] = down
    return up, down


@inline_kernel
def _index(up, down, n, legacy, out):
    if legacy:
        for r in range(n):
            rs = 0.0 if down[r] <= 1e-12 else up[r] / down[r]
            out[r] = 100.0 - 100.0 / (1.0 + rs)
    else:
        for r in range(n):
            moved = up[r] + down[r]
            out[r] = 0.0 if moved < 1e-14 else 100.0 * (up[r] / moved)


@inline_kernel
def rsi4(x, lo, hi, legacy, n, w, lanes, floats, work, out, at):
    """Wilder's index of windows w[4] from out[lanes[4], at] on; state in floats[lane, :2]."""
    first = max(lo, 1)
    if lo == 0:
        for i in range(n):
            out[lanes[i], at] = 0.0
    rows = hi - first
    if rows <= 0:
        return
    gain, loss = work[0, :rows], work[1, :rows]
    _gain_loss(x, first, hi, gain, loss)
    steady = min(max(first, w[0] + 1, w[1] + 1, w[2] + 1, w[3] + 1), hi) - first
    # Two lanes at a time: each has two recursions of its own.
    for i in range(0, n, 2):
        j = min(i + 1, n - 1)
        fa, fb = floats[lanes[i]], floats[lanes[j]]
        up_a, up_b, down_a, down_b = work[2], work[3], work[4], work[5]
        if steady > 0:
            ua, da = _wilder_start(gain, loss, first, steady, w[i], fa, up_a, down_a)
            ub, db = _wilder_start(gain, loss, first, steady, w[j], fb, up_b, down_b)
        else:
            ua, da, ub, db = fa[0], fa[1], fb[0], fb[1]
        ia, ib = 1.0 / w[i], 1.0 / w[j]
        ka, kb = 1.0 - ia, 1.0 - ib
        for r in range(steady, rows):
            g, s = gain[r], loss[r]
            ua = ka * ua + ia * g
            ub = kb * ub + ib * g
            da = ka * da + ia * s
            db = kb * db + ib * s
            up_a[r] = ua
            up_b[r] = ub
            down_a[r] = da
            down_b[r] = db
        fa[0], fa[1] = flushed(ua), flushed(da)
        fb[0], fb[1] = flushed(ub), flushed(db)
        _index(up_a, down_a, rows, legacy, out[lanes[i], at + first - lo :])
        _index(up_b, down_b, rows, legacy, out[lanes[j], at + first - lo :])
