# mypy: ignore-errors
"""The typical price (high + low + close) / 3, in float32 in "legacy", and its money flow."""

import numpy as np

from tfa_kernels._blocks_nb import window_sum
from tfa_kernels._jit import inline_kernel
from tfa_kernels._op_nb import column, op_kernel, read, window, written

# In "talib", prices this close relative to their size are one: the sum of three may round apart.
EQUAL = 1e-14


@inline_kernel
def typical(u, lo, hi, out):
    h, s, c = read(u, 0, lo, hi), read(u, 1, lo, hi), read(u, 2, lo, hi)
    if u.legacy:
        # Ties between neighbours decide the money flow's sign, so the rounding is part of it.
        for r in range(hi - lo):
            total = np.float32(np.float32(h[r]) + np.float32(s[r])) + np.float32(c[r])
            out[r] = np.float32(total) / np.float32(3.0)
    else:
        for r in range(hi - lo):
            out[r] = (h[r] + s[r] + c[r]) / 3.0


@op_kernel
def mfi(u, lo, hi):
    """Money flow (typical price times volume) of bars that rise against those that fall.

    A non-finite price or volume makes the rows NaN whose window needs it. No flow gives 0, and in
    "legacy" so does no falling flow. State: floats[:2] and kept, sums; floats[2], the price before.
    """
    n, w, sf = hi - lo, window(u, 0), u.floats[column(u, 0)]
    equal = 0.0 if u.legacy else EQUAL
    rising, falling, price = u.work[0], u.work[1], u.work[2]
    typical(u, lo, hi, price)
    before = price[0] if lo == 0 else sf[2]
    volume, out = read(u, 3, lo, hi), written(u, 0)
    for r in range(n):
        now = price[r]
        move = now - before
        move = 0.0 * move if abs(move) <= equal * (abs(now) + abs(before)) else move
        flow = now * volume[r]
        bad = 0.0 * move + 0.0 * flow
        rising[r] = flow + bad if move > 0.0 else bad
        falling[r] = flow + bad if move < 0.0 else bad
        before = now
    if lo == 0:
        rising[0] = 0.0
        falling[0] = 0.0
    sf[2] = before
    window_sum(rising, lo, hi, w, sf[0:], u.kept)
    window_sum(falling, lo, hi, w, sf[1:], u.kept[w + 1 :])
    if u.legacy:
        for r in range(n):
            ratio = rising[r] / falling[r]
            out[r] = 0.0 if falling[r] <= 1e-8 else 100.0 - 100.0 / (1.0 + ratio)
    else:
        for r in range(n):
            total = rising[r] + falling[r]
            out[r] = 0.0 if total <= 0.0 else 100.0 * (rising[r] / total)
