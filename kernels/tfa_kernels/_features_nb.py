# mypy: ignore-errors
"""Feature kernels: pure loops, no validation.

A series is walked in tiles of TILE rows. In a tile every unit advances its own state and leaves its
columns in contiguous scratch rows; then the tile's rows go out together, in row order.

A unit is up to four columns of one op over one source. An op consumes rows lo..hi of the series x,
keeps what it needs in the float64 floats[column] and the int64 ints[column] between tiles, may use
the rows of work, and leaves row t in out[column, at + t - lo]. lo == 0 starts a series. Rows before
a column's lookback are overwritten by the caller, so an op may leave anything there. An op that
keeps more between tiles has kept, float64, its part of one array per worker; it is sized for
windows up to the longest series, so an op of a window longer than its series must not touch it.
"""

import math

import numpy as np
from numba import prange

from tfa_kernels._bar_nb import (
    LOG_BLOCK,
    bid_ask_ratio,
    market_depth,
    order_flow,
    price_impact,
    spread_bp,
)
from tfa_kernels._extremes_nb import stochastic_d, stochastic_k, williams_r
from tfa_kernels._jit import inline_kernel, parallel_kernel
from tfa_kernels._macd_nb import macd, macd_out
from tfa_kernels._range_nb import adx, atr
from tfa_kernels._recursive_nb import ema4, rsi4
from tfa_kernels._rolling_nb import bollinger, rolling_root, sma, volatility, zwin
from tfa_kernels._typical_nb import cci, mfi
from tfa_kernels._volume_nb import ad_line, obv, vpt

(
    IDENT,
    LOGRET,
    MOMENTUM,
    SMA,
    EMA,
    RSI,
    ZWIN,
    SPREAD_BP,
    ROC,
    VOLATILITY,
    BOLLINGER_MIDDLE,
    BOLLINGER_UPPER,
    BOLLINGER_LOWER,
    MACD_LINE,
    MACD_SIGNAL,
    MACD_HISTOGRAM,
    PARKINSON,
    GARMAN_KLASS,
    PRICE_IMPACT,
    ORDER_FLOW,
    MARKET_DEPTH,
    BID_ASK_RATIO,
    OBV,
    VPT,
    AD_LINE,
    ATR,
    ADX,
    STOCHASTIC_K,
    STOCHASTIC_D,
    WILLIAMS_R,
    MFI,
    CCI,
) = range(32)

TILE = 512
# A power-of-two stride would put one row of all scratch columns into the same cache sets.
SCRATCH_STRIDE = TILE + 16
LANES = 4
SOURCES = 5
PARAMS = 3
# Where the parts of a unit row begin.
MEMORY = 3
READS = 4
WINDOWS = READS + SOURCES
COLUMNS = WINDOWS + LANES
N_FLOATS = 8
N_INTS = 4
N_WORK = 6

PRICE_FLOOR = 1e-12


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
def _momentum(x, lo, hi, w, out):
    for t in range(max(lo, w), hi):
        out[t - lo] = x[t] - x[t - w]


@inline_kernel
def _roc(x, lo, hi, w, legacy, out):
    floor = PRICE_FLOOR if legacy else -np.inf
    for t in range(max(lo, w), hi):
        before = x[t - w]
        if before < floor:
            before = floor
        out[t - lo] = 0.0 if before == 0.0 else 100.0 * (x[t] - before) / before


@inline_kernel
def _advance(
    code, src, start, stop, lo, hi, legacy, reads, n, w, lanes, params, floats, ints, work, kept,
    out, at,
):  # fmt: skip
    """Rows lo..hi of one unit, of the series in rows start..stop of src."""
    x = src[reads[0], start:stop]
    if code == EMA:
        ema4(x, lo, hi, legacy, n, w, lanes, floats, out, at)
        return
    if code == RSI:
        rsi4(x, lo, hi, legacy, n, w, lanes, floats, work, out, at)
        return
    c = lanes[0]
    sf, si, row = floats[c], ints[c], out[c, at:]
    x1, x2, x3 = src[reads[1], start:stop], src[reads[2], start:stop], src[reads[3], start:stop]
    if code == IDENT:
        _ident(x, lo, hi, row)
    elif code == LOGRET:
        _logret(x, lo, hi, legacy, sf, row)
    elif code == MOMENTUM:
        _momentum(x, lo, hi, w[0], row)
    elif code == SMA:
        sma(x, lo, hi, w[0], sf, si, work, row)
    elif code == ZWIN:
        zwin(x, lo, hi, w[0], sf, si, work, row)
    elif code == SPREAD_BP:
        spread_bp(x, x1, lo, hi, row)
    elif code == ROC:
        _roc(x, lo, hi, w[0], legacy, row)
    elif code == VOLATILITY:
        volatility(x, lo, hi, w[0], legacy, sf, si, work, row)
    elif code == BOLLINGER_MIDDLE:
        sma(x, lo, hi, w[0], sf, si, work, row)
    elif code == BOLLINGER_UPPER:
        bollinger(x, lo, hi, w[0], legacy, params[c, 0], sf, si, work, row)
    elif code == BOLLINGER_LOWER:
        bollinger(x, lo, hi, w[0], legacy, -params[c, 0], sf, si, work, row)
    elif code in (MACD_LINE, MACD_SIGNAL, MACD_HISTOGRAM):
        fast, slow, signal = np.int64(params[c, 0]), np.int64(params[c, 1]), np.int64(params[c, 2])
        macd(x, lo, hi, legacy, fast, slow, signal, sf, work)
        macd_out(hi - lo, code == MACD_HISTOGRAM, code == MACD_SIGNAL, work, row)
    elif code == PARKINSON:
        rolling_root(x, lo, hi, w[0], 4.0 * math.log(2.0), sf, si, work, row)
    elif code == GARMAN_KLASS:
        rolling_root(x, lo, hi, w[0], 1.0, sf, si, work, row)
    elif code == PRICE_IMPACT:
        price_impact(x, x1, lo, hi, row)
    elif code == ORDER_FLOW:
        order_flow(x, x1, x2, x3, lo, hi, row)
    elif code == MARKET_DEPTH:
        market_depth(x, x1, x2, lo, hi, row)
    elif code == BID_ASK_RATIO:
        bid_ask_ratio(x, x1, x2, lo, hi, legacy, row)
    elif code == OBV:
        obv(x, x1, lo, hi, legacy, sf, work, row)
    elif code == VPT:
        vpt(x, x1, lo, hi, sf, work, row)
    elif code == AD_LINE:
        ad_line(x, x1, x2, x3, lo, hi, legacy, sf, work, row)
    elif code == ATR:
        atr(x, x1, x2, lo, hi, w[0], sf, work, row)
    elif code == ADX:
        adx(x, x1, x2, lo, hi, legacy, w[0], sf, work, row)
    elif code == STOCHASTIC_K:
        stochastic_k(x, x1, x2, lo, hi, legacy, w[0], sf, work, kept, row)
    elif code == STOCHASTIC_D:
        d = np.int64(params[c, 0])
        stochastic_d(x, x1, x2, lo, hi, legacy, w[0], d, sf, work, kept, row)
    elif code == WILLIAMS_R:
        williams_r(x, x1, x2, lo, hi, legacy, w[0], sf, work, kept, row)
    elif code == MFI:
        mfi(x, x1, x2, x3, lo, hi, legacy, w[0], sf, work, kept, row)
    elif code == CCI:
        cci(x, x1, x2, lo, hi, legacy, w[0], si, work, kept, row)


@inline_kernel
def _fill(row, count, value):
    for r in range(count):
        row[r] = value


@inline_kernel
def _write(scratch, n, out):
    for r in range(n):
        column = scratch[:, r]
        row = out[r]
        for c in range(row.size):
            row[c] = column[c]


@inline_kernel
def _series(
    src, start, stop, units, c0, c1, lookbacks, params, legacy, fill, emit, pad, scratch, floats,
    ints, work, memory, out,
):  # fmt: skip
    """Columns c0..c1 of one series, rows start..stop of src and out."""
    for lo in range(0, stop - start, TILE):
        hi = min(lo + TILE, stop - start)
        for u in range(units.shape[0]):
            unit = units[u]
            begin = unit[1]
            if hi > begin:
                a = max(lo - begin, 0)
                _advance(
                    unit[0], src, start + begin, stop, a, hi - begin, legacy,
                    unit[READS:WINDOWS], unit[2], unit[WINDOWS:COLUMNS], unit[COLUMNS:],
                    params[c0:c1], floats, ints, work, memory[unit[MEMORY] :],
                    scratch, a + begin - lo,
                )  # fmt: skip
        for c in range(c0, c1):
            _fill(scratch[c - c0], min(hi, lookbacks[c]) - lo, fill)
            _fill(scratch[c - c0], min(hi, emit) - lo, pad)
        _write(scratch, hi - lo, out[start + lo : start + hi, c0:c1])


@inline_kernel
def _share(
    src, offsets, tasks, first, last, units, lookbacks, params, memory_size, legacy, fill, emit,
    pad, out,
):  # fmt: skip
    n = out.shape[1]
    scratch = np.empty((n, SCRATCH_STRIDE), np.float32)
    floats = np.zeros((n, N_FLOATS), np.float64)
    ints = np.zeros((n, N_INTS), np.int64)
    work = np.empty((N_WORK, TILE), np.float64)
    memory = np.empty(memory_size, np.float64)
    for k in range(first, last):
        s, c0, c1, u0, u1 = tasks[k]
        _series(
            src, offsets[s], offsets[s + 1], units[u0:u1], c0, c1, lookbacks, params, legacy, fill,
            emit, pad, scratch, floats, ints, work, memory, out,
        )  # fmt: skip


@parallel_kernel
def features(
    src, offsets, tasks, shares, units, lookbacks, params, memory_size, legacy, fill, emit, pad, out
):
    """Fill out [N, F] float32.

    src [sources, N] float64; offsets [S + 1]; tasks rows are (series, first column, column end,
    first unit, unit end); worker k does tasks shares[k]..shares[k + 1]; units rows are (op code,
    first row of the source, columns in use, first float of its memory, SOURCES rows of src, LANES
    windows, LANES columns counted from the task's first); lookbacks [F]; params [F, PARAMS];
    memory_size: floats that the units of one task need. All integers are int64.
    """
    for k in prange(shares.size - 1):
        worker = np.int64(k)
        _share(
            src, offsets, tasks, shares[worker], shares[worker + 1], units, lookbacks, params,
            memory_size, legacy, fill, emit, pad, out,
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
