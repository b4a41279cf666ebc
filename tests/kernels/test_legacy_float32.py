"""The "legacy" convention against naive float32 code of the same definitions.

The columns are computed a second time with state in float32: E[x^2] - E[x]^2 from running sums that
are never rebuilt, recursions that round every step. Where that differs from ours, exact arithmetic
decides.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from tfa_kernels import build_features, load_spec
from tfa_kernels.ops import OPS

SQUARES = {"VOLATILITY", "ZWIN", "BOLLINGER_UPPER", "BOLLINGER_LOWER"}
# By more than the bounds, on cents: small differences of large float32 numbers.
DIFFERS = SQUARES | {"MACD_LINE", "MACD_SIGNAL", "MACD_HISTOGRAM", "GARMAN_KLASS", "CCI"}
SOURCES = ("close", "volume", "logret")
WINDOWS = (7, 14, 50)


def columns_of(bars):
    x = {name: bars[name].astype(np.float32) for name in bars}
    x["logret"] = log_returns(x["close"])
    return x


def log_returns(x):
    logs = np.log(np.maximum(x, np.float32(1e-12)).astype(float)).astype(np.float32)
    return np.diff(logs, prepend=logs[:1])


def padded(values, first, rows):
    """The newest of values at rows from first on, 0 before."""
    return np.concatenate((np.zeros(first), values[first - rows :]))


def mean(x, w, real):
    return padded(sliding_window_view(x.astype(real), w).mean(axis=1), w - 1, x.size)


def ema(x, w, real):
    k = real(2.0 / (w + 1.0))
    out = [real(x[0])]
    for value in x[1:].astype(real):
        out.append(k * value + (real(1) - k) * out[-1])
    return np.array(out)


def wilder(x, w, real):
    """Mean of x[1..w] at w, then (previous (w - 1) + new) / w."""
    out = np.zeros(x.size, real)
    out[w] = x[1 : w + 1].astype(real).sum() / real(w)
    for t in range(w + 1, x.size):
        out[t] = (out[t - 1] * real(w - 1) + real(x[t])) / real(w)
    return out


def moments(x, w, real):
    """Mean and std of x[t-w+1..t], t >= w - 1, as E[x^2] - E[x]^2 from running sums."""
    x = x.astype(real)
    means, stds = np.zeros(x.size, real), np.zeros(x.size, real)
    s1 = s2 = real(0)
    for t in range(x.size):
        s1, s2 = s1 + x[t], s2 + x[t] * x[t]
        if t >= w:
            s1, s2 = s1 - x[t - w], s2 - x[t - w] * x[t - w]
        means[t] = s1 / real(w)
        stds[t] = np.sqrt(np.maximum(s2 / real(w) - means[t] * means[t], real(0)))
    return means, stds


def exact_moments(x, w, _):
    values = [Fraction(float(v)) for v in x]
    means, stds = np.zeros(x.size), np.zeros(x.size)
    s1 = s2 = Fraction(0)
    for t in range(x.size):
        s1, s2 = s1 + values[t], s2 + values[t] ** 2
        if t >= w:
            s1, s2 = s1 - values[t - w], s2 - values[t - w] ** 2
        means[t], stds[t] = float(s1 / w), math.sqrt(s2 / w - (s1 / w) ** 2)
    return means, stds


def ratio(a, b, where):
    with np.errstate(all="ignore"):
        return np.where(where, a / np.where(where, b, 1), 0)


def true_range(b, real):
    high, low, before = b["high"][1:], b["low"][1:], b["close"][:-1]
    steps = [high - low, np.abs(high - before), np.abs(low - before)]
    return np.concatenate(([0], np.max(steps, axis=0))).astype(real)


def rsi(x, w, real):
    step = np.diff(x, prepend=x[:1]).astype(real)
    up, down = wilder(np.maximum(step, 0), w, real), wilder(np.maximum(-step, 0), w, real)
    rs = ratio(up, down, down > 1e-12)
    return padded(100 - 100 / (1 + rs), w + 1, x.size)


def adx(b, w, real):
    up, down = np.diff(b["high"], prepend=b["high"][:1]), -np.diff(b["low"], prepend=b["low"][:1])
    plus, minus = np.where(up > down, up, 0).clip(0), np.where(down > up, down, 0).clip(0)
    sums = []
    for v in (plus, minus, true_range(b, real)):
        s = np.zeros(v.size, real)
        s[w] = v[1 : w + 1].astype(real).sum()
        for t in range(w + 1, v.size):
            s[t] = s[t - 1] - s[t - 1] / real(w) + real(v[t])
        sums.append(s)
    plus, minus, tr = sums
    p, m = ratio(100 * plus, tr, tr > 0), ratio(100 * minus, tr, tr > 0)
    return padded(ratio(100 * np.abs(p - m), p + m, p + m > 0), 2 * w, tr.size)


def extremes(b, w):
    high = sliding_window_view(b["high"], w + 1).max(axis=1)
    low = sliding_window_view(b["low"], w + 1).min(axis=1)
    return padded(high, w, b["high"].size), padded(low, w, b["low"].size)


def typical(b):
    return (b["high"] + b["low"] + b["close"]) / np.float32(3)


def cci(b, w, real):
    rows = sliding_window_view(typical(b).astype(real), w)
    distance = rows - rows.mean(axis=1, keepdims=True)
    d = np.abs(distance).mean(axis=1)
    return padded(ratio(distance[:, -1], real(0.015) * d, d > 1e-8), w, b["close"].size)


def mfi(b, w, real):
    price = typical(b)
    step, flow = np.diff(price, prepend=price[:1]), price.astype(real) * b["volume"].astype(real)
    up = sliding_window_view(np.where(step > 0, flow, 0), w).sum(axis=1)
    down = sliding_window_view(np.where(step < 0, flow, 0), w).sum(axis=1)
    values = np.where(down > 1e-8, 100 - 100 / (1 + ratio(up, down, down > 1e-8)), 0)
    return padded(values, w, price.size)


def bid_ask_ratio(b):
    span = b["high"] - b["low"]
    p = ratio(b["close"] - b["low"], span, span > 1e-8)
    return np.where(span > 1e-8, p / (np.float32(1) - p + np.float32(1e-8)), 0)


def running(steps, real):
    return np.cumsum(np.concatenate(([0], steps[1:])).astype(real), dtype=real)


def bar_op(op, b, w, params, real):
    b = {name: x.astype(real) for name, x in b.items()}
    high, low, close, volume = (b[name] for name in ("high", "low", "close", "volume"))
    span, n = high - low, close.size
    before = np.concatenate((close[:1], close[:-1]))
    step = close - before
    if op in ("PARKINSON", "GARMAN_KLASS"):
        terms = np.log(high / low) ** 2 / real(4 * math.log(2))
        if op == "GARMAN_KLASS":
            body = real(2 * math.log(2) - 1) * np.log(close / b["open"]) ** 2
            terms = np.log(high / low) ** 2 / 2 - body
            terms[0] = 0
        return np.sqrt(np.maximum(mean(terms, w, real), 0))
    if op == "ATR":
        return padded(wilder(true_range(b, real), w, real), w, n)
    if op == "ADX":
        return adx(b, w, real)
    if op in ("STOCHASTIC_K", "STOCHASTIC_D", "WILLIAMS_R"):
        hh, ll = extremes(b, w)
        if op == "WILLIAMS_R":
            return padded(ratio(-100 * (hh - close), hh - ll, hh > ll), w, n)
        k = padded(ratio(100 * (close - ll), hh - ll, hh > ll), w, n)
        d = int(params[0])
        return k if op == "STOCHASTIC_K" else padded(mean(k, d, real), w + d - 1, n)
    place = ratio((close - low) - (high - close), span, span > 1e-8)
    return {
        "OBV": running(np.sign(step) * volume, real),
        "VPT": running(volume * step / before, real),
        "AD_LINE": running(volume * place, real),
        "SPREAD_BP": 1e4 * span / ((high + low) / 2),
        "PRICE_IMPACT": ratio(1e6 * np.abs(step) / before, np.sqrt(volume), volume > 0),
        "ORDER_FLOW": place * volume,
        "MARKET_DEPTH": ratio(span, np.log(volume + 1), (volume > 1e-8) & (span > 1e-8)),
    }[op]


def source_op(op, x, w, params, real, rolled):
    n = x.size
    past = np.concatenate((x[:w], x[:-w])) if w else x
    if op == "IDENT":
        return x
    if op == "LOGRET":
        return log_returns(x)
    if op == "MOMENTUM":
        return padded(x.astype(real) - past.astype(real), w, n)
    if op == "ROC":
        p = np.maximum(past, np.float32(1e-12)).astype(real)
        return padded(100 * (x.astype(real) - p) / p, w, n)
    if op == "EMA":
        return ema(x, w, real)
    if op == "RSI":
        return rsi(x, w, real)
    if op.startswith("MACD"):
        fast, slow, signal = map(int, params)
        line = ema(x, fast, real) - ema(x, slow, real)
        trail = ema(line, signal, real)
        return {"LINE": line, "SIGNAL": trail, "HISTOGRAM": line - trail}[op[5:]]
    middle = mean(x, w, np.float64)
    if op in ("SMA", "BOLLINGER_MIDDLE"):
        return padded(middle, w - 1 if op == "SMA" else w, n)
    means, stds = rolled(x, w, real)
    if op == "ZWIN":
        return padded(ratio(x - means, stds, stds > 1e-8), w, n)
    before = np.concatenate(([0], stds[:-1]))
    if op == "VOLATILITY":
        return padded(before, w, n)
    k = params[0] if op == "BOLLINGER_UPPER" else -params[0]
    return padded(middle + k * before, w, n)


def naive(feature, columns, real, rolled):
    """One column. real: type of the state; rolled: gives rolling means and stds."""
    op, w, params = feature.op, feature.window, feature.params
    # Typical prices are float32 in either case: ties of theirs decide MFI.
    if op in ("MFI", "CCI"):
        return (mfi if op == "MFI" else cci)(columns, w, real)
    if op == "BID_ASK_RATIO":
        return bid_ask_ratio(columns)
    if OPS[op].inputs:
        return bar_op(op, columns, w, params, real)
    return source_op(op, columns[feature.source], w, params, real, rolled)


def every_column():
    features = []
    for op, row in OPS.items():
        for source in ("close",) if row.inputs else SOURCES:
            for w in WINDOWS if row.window is not None else (None,):
                keys = {} if w is None else {"window": w}
                features.append({"name": f"{op} {source} {w}", "op": op, "source": source, **keys})
    return load_spec({"schema_version": "1.0", "features": features})


def compare(bars):
    """(feature, ours, float32 code, oracle) of every column."""
    spec, columns = every_column(), columns_of(bars)
    for feature, ours in zip(spec.features, build_features(bars, spec).values.T, strict=True):
        legacy = naive(feature, columns, np.float32, moments)
        oracle = naive(feature, columns, np.float64, exact_moments)
        yield feature, ours.astype(float), np.float32(legacy).astype(float), np.float64(oracle)


@pytest.fixture(scope="module")
def volatile():
    """Moves of 2 %, no bar like the one before it."""
    rng = np.random.default_rng(8)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.02, 1500)))
    first = np.concatenate(([100.0], close[:-1]))
    up, down = 1 + rng.random((2, 1500)) / 100
    high, low = np.maximum(first, close) * up, np.minimum(first, close) / down
    volume = rng.integers(1, 10_000, 1500).astype(np.float64)
    return list(compare(dict(open=first, high=high, low=low, close=close, volume=volume)))


@pytest.fixture(scope="module")
def cents(walk_bars):
    """Cents on a price of 350, which its float32 square does not resolve."""
    return list(compare(walk_bars(1500, seed=8, level=350.0)))


@pytest.mark.parametrize("op", OPS)
def test_agrees_where_nothing_cancels(op, volatile, legacy_bound):
    for feature, ours, legacy, oracle in volatile:
        # In squares of prices rounding piles up from row to row, however they move.
        if feature.op == op and (op not in SQUARES or feature.source != "close"):
            scale = np.abs(legacy).max()
            assert np.abs(ours - legacy).max() <= legacy_bound(feature) * scale, feature.name
            assert np.abs(ours - oracle).max() <= 1e-7 * scale, feature.name


@pytest.mark.parametrize("op", OPS)
def test_nearer_to_the_oracle_where_they_differ(op, cents, legacy_bound):
    differ = False
    for feature, ours, legacy, oracle in cents:
        if feature.op == op:
            scale = np.abs(oracle).max()
            apart = np.abs(ours - legacy) > legacy_bound(feature) * scale
            error = np.abs(ours - oracle)
            assert error.max() <= 1e-7 * scale, feature.name
            assert (error[apart] < np.abs(legacy - oracle)[apart]).all(), feature.name
            differ |= apart.any()
    assert differ == (op in DIFFERS)
