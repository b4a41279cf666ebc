# mypy: ignore-errors
"""Commodity channel index, in sums that are exact.

Over a window, prices are counted in units of a power of two, small enough for the window's largest
price to take up nearly all of an int64 that also holds the sum. Sums of integers do not round: they
roll for ever, a flat window is exactly flat, nothing is left of a price that has left, and a row
depends on its window alone. The unit is at most 2**-51 of the window's largest price for windows
up to 512 rows, and twice that for every doubling of the window beyond.
"""

import math

import numpy as np

from tfa_kernels._deviation_nb import SCRATCH, sums_of_larger
from tfa_kernels._jit import inline_kernel
from tfa_kernels._op_nb import TILE, column, op_kernel, window, written
from tfa_kernels._typical_nb import EQUAL, typical

# Exponent bits of a float64: those of NaN and infinity, and of the numbers from 0.5 to 1.
NOT_FINITE = 0x7FF
BIAS = 1022
# Below it a unit's inverse would overflow.
LEAST_EXPONENT = 64
# Bits of a window's sum: twice it, and differences of two, stay within an int64.
SUM_BITS = 61
# Floats that a column keeps, besides 4 for each row of its window.
MEMORY = 2 * TILE + SCRATCH


@inline_kernel
def _exponent(bits):
    return (bits >> 52) & 0x7FF


@inline_kernel
def _largest(bits, r, w):
    """The largest exponent in row r's window, and the last element that has it."""
    most = np.int64(0)
    for i in range(r + 1, r + w + 1):
        most = max(most, _exponent(bits[i]))
    last = r + w
    while _exponent(bits[last]) != most:
        last -= 1
    return most, last


@inline_kernel
def _alike(bits, r, n, w, most, last):
    """The row up to which windows from row r on have the same largest exponent, and its last."""
    others = 0
    for i in range(r + w, n + w):
        others += 1 if _exponent(bits[i]) != most else 0
    if others == 0:
        return n, n - 1 + w
    while r < n:
        e = _exponent(bits[r + w])
        if e == most:
            last = r + w
        if e > most or last <= r:
            break
        r += 1
    return r, last


@inline_kernel
def _units(prices, exponent, w, q):
    """Write prices in units; return how many units make 1."""
    bits = SUM_BITS
    while (np.int64(1) << (SUM_BITS - bits)) < w:
        bits -= 1
    scale = math.ldexp(1.0, int(bits + BIAS - max(exponent, LEAST_EXPONENT)))
    for i in range(prices.size):
        q[i] = np.int64(prices[i] * scale)
    return scale


@inline_kernel
def _indices(q, n, w, scale, legacy, work, scratch, out):
    """Rows whose windows are q[r : r + w]."""
    total, middle, larger = work[0], work[1], work[2]
    inverse = 1.0 / w
    for r in range(1, n):
        total[r] = q[r + w - 1] - q[r - 1]
    rolled = np.int64(0)
    for i in range(w):
        rolled += q[i]
    total[0] = rolled
    for r in range(1, n):
        rolled += total[r]
        total[r] = rolled
    # Any middle serves that is the mean but for rounding: its multiple is taken off again.
    for r in range(n):
        middle[r] = np.int64(np.float64(total[r]) * inverse)
    sums_of_larger(q, w, n, middle, larger, scratch)
    unit = inverse / scale
    newest = q[w - 1 : w - 1 + n]
    for r in range(n):
        distance = np.float64(w * newest[r] - total[r])
        deviations = np.float64((larger[r] - w * middle[r]) + (larger[r] - total[r]))
        index = distance / (0.015 * deviations)
        if legacy:
            out[r] = 0.0 if deviations * unit <= 1e-8 else index
        else:
            zero = EQUAL * abs(np.float64(total[r]))
            out[r] = 0.0 if deviations <= zero or abs(distance) <= zero else index


@op_kernel
def cci(u, lo, hi):
    """Distance of the typical price from its mean over w rows, in 0.015 mean absolute distances.

    A non-finite price makes the rows NaN whose window holds it. kept: the prices of a call's rows
    and of the w rows before them; the same in units; scratch. State: ints[0], how many rows the
    call before had; ints[1:3], the largest exponent in the window and where it was last.
    """
    n, w, si, kept = hi - lo, window(u, 0), u.ints[column(u, 0)], u.kept
    shift = si[0] if lo > 0 else 0
    if shift:
        for i in range(w):
            kept[i] = kept[shift + i]
    si[0] = n
    typical(u, lo, hi, kept[w : w + n])
    as_bits, work, out = kept.view(np.int64), u.work.view(np.int64), written(u, 0)
    q, scratch = as_bits[w + TILE : 2 * (w + TILE)], as_bits[2 * (w + TILE) :]
    exponent, last = (si[1], si[2] - shift) if lo > 0 else (np.int64(-1), np.int64(0))
    end = np.int64(0)
    while end < n:
        r = end
        end, last = _alike(as_bits, r, n, w, exponent, last)
        if end == r:
            exponent, last = _largest(as_bits, r, w)
            end, last = _alike(as_bits, r, n, w, exponent, last)
        if exponent == NOT_FINITE:
            for i in range(r, end):
                out[i] = np.nan
        else:
            scale = _units(kept[r + 1 : end + w], exponent, w, q)
            _indices(q, end - r, w, scale, u.legacy, work, scratch, out[r:])
    si[1], si[2] = exponent, last
