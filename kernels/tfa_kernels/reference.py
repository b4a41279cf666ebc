"""Naive oracles: the definitions written out in plain Python float64, one row at a time.

Slow (O(rows x window)) and free of running sums, so that nothing can drift. They share no
arithmetic with the kernels.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from tfa_kernels import reference_ranges
from tfa_kernels._bars import read_columns, series_offsets
from tfa_kernels.ops import bar_columns
from tfa_kernels.reference_hlcv import HLCV, HLCV_FIRST_LEGACY
from tfa_kernels.spec import FeatureSpec, load_spec

Series = list[float]
Bars = Mapping[str, Series]
Params = tuple[float, ...]


def _log(value: float, legacy: bool) -> float:
    if math.isnan(value):
        return math.nan
    result = math.log(max(value, 1e-12))
    return float(np.float32(result)) if legacy else result


def _returns(x: Series, legacy: bool) -> Series:
    return [math.nan, *(_log(b, legacy) - _log(a, legacy) for a, b in pairwise(x))]


def _mean(values: Series) -> float:
    if not all(map(math.isfinite, values)):
        return math.nan
    return math.fsum(values) / len(values)


def _ident(x: Series, w: int, legacy: bool) -> Series:
    return list(x)


def _logret(x: Series, w: int, legacy: bool) -> Series:
    return _returns(x, legacy)


def _sma(x: Series, w: int, legacy: bool) -> Series:
    return [math.nan if t < w - 1 else _mean(x[t - w + 1 : t + 1]) for t in range(len(x))]


def _ema(x: Series, w: int, legacy: bool) -> Series:
    k = 2.0 / (w + 1.0)
    seed = 0 if legacy else w - 1
    out: Series = []
    for t, value in enumerate(x):
        if t < seed:
            out.append(math.nan)
        elif t == seed:
            out.append(sum(x[: t + 1]) / (t + 1))
        else:
            out.append(k * value + (1.0 - k) * out[-1])
    return out


def _rsi(x: Series, w: int, legacy: bool) -> Series:
    steps = [b - a for a, b in pairwise(x)]
    gains = [max(d, 0.0) if math.isfinite(d) else math.nan for d in steps]
    losses = [max(-d, 0.0) if math.isfinite(d) else math.nan for d in steps]
    out = [math.nan] * len(x)
    up = down = math.nan
    for t in range(w, len(x)):
        if t == w:
            up, down = sum(gains[:w]) / w, sum(losses[:w]) / w
        else:
            up = (up * (w - 1) + gains[t - 1]) / w
            down = (down * (w - 1) + losses[t - 1]) / w
        if legacy:
            rs = 0.0 if down <= 1e-12 else up / down
            out[t] = math.nan if t == w else 100.0 - 100.0 / (1.0 + rs)
        else:
            out[t] = 0.0 if up + down < 1e-14 else 100.0 * up / (up + down)
    return out


def _zwin(x: Series, w: int, legacy: bool) -> Series:
    out = [math.nan] * len(x)
    for t in range(w if legacy else w - 1, len(x)):
        window = x[t - w + 1 : t + 1]
        mean = _mean(window)
        if not math.isnan(mean):
            std = math.sqrt(math.fsum((v - mean) ** 2 for v in window) / w)
            out[t] = 0.0 if std <= 1e-8 else (x[t] - mean) / std
    return out


def _momentum(x: Series, w: int, legacy: bool) -> Series:
    return [math.nan if t < w else x[t] - x[t - w] for t in range(len(x))]


def _roc(x: Series, w: int, legacy: bool) -> Series:
    out = [math.nan] * min(w, len(x))
    for before, value in zip(x[: max(len(x) - w, 0)], x[w:], strict=True):
        p = before if math.isnan(before) or not legacy else max(before, 1e-12)
        out.append(0.0 if p == 0 else 100 * (value - p) / p)
    return out


def _std(window: Series) -> float:
    # About the first value, so that equal values give exactly 0.
    steps = [v - window[0] for v in window]
    mean = _mean(steps)
    if math.isnan(mean):
        return math.nan
    return math.sqrt(math.fsum((d - mean) ** 2 for d in steps) / len(steps))


def _volatility(x: Series, w: int, legacy: bool) -> Series:
    first, lag = (w, 1) if legacy else (w - 1, 0)
    rows = range(first, len(x))
    return [math.nan] * min(first, len(x)) + [_std(x[t - lag - w + 1 : t - lag + 1]) for t in rows]


def _band(sign: int) -> Callable[[Series, int, Params, bool], Series]:
    def band(x: Series, w: int, params: Params, legacy: bool) -> Series:
        middle, std = _sma(x, w, legacy), _volatility(x, w, legacy)
        if sign == 0:
            return middle
        return [m + sign * params[0] * s for m, s in zip(middle, std, strict=True)]

    return band


def _later(x: Series, first: int, w: int) -> Series:
    """EMA of the rows from first on, seeded with the mean of their first w."""
    return [math.nan] * min(first, len(x)) + _ema(x[first:], w, False)


def _macd(part: int) -> Callable[[Series, int, Params, bool], Series]:
    def macd(x: Series, w: int, params: Params, legacy: bool) -> Series:
        fast, slow, signal = map(int, params)
        if legacy:
            means = zip(_ema(x, fast, True), _ema(x, slow, True), strict=True)
            line = [a - b for a, b in means]
            trail = _ema(line, signal, True)
        else:
            fast, slow = sorted((fast, slow))
            means = zip(_later(x, slow - fast, fast), _later(x, 0, slow), strict=True)
            line = [a - b for a, b in means]
            trail = _later(line, slow - 1, signal)
            unready = min(slow + signal - 2, len(x))
            line[:unready] = [math.nan] * unready
        return (line, trail, [a - b for a, b in zip(line, trail, strict=True)])[part]

    return macd


def _spread_bp(bars: Bars, w: int, params: Params, legacy: bool) -> Series:
    out = []
    for high, low in zip(bars["high"], bars["low"], strict=True):
        middle = (high + low) / 2
        out.append(1e4 * (high - low) / middle if middle > 1e-8 else 0.0)
    return out


_ONE_COLUMN: dict[str, Callable[[Series, int, bool], Series]] = {
    "IDENT": _ident,
    "LOGRET": _logret,
    "MOMENTUM": _momentum,
    "SMA": _sma,
    "EMA": _ema,
    "RSI": _rsi,
    "ZWIN": _zwin,
    "ROC": _roc,
    "VOLATILITY": _volatility,
}
_WITH_KEYS: dict[str, Callable[[Series, int, Params, bool], Series]] = {
    "BOLLINGER_MIDDLE": _band(0),
    "BOLLINGER_UPPER": _band(1),
    "BOLLINGER_LOWER": _band(-1),
    "MACD_LINE": _macd(0),
    "MACD_SIGNAL": _macd(1),
    "MACD_HISTOGRAM": _macd(2),
}
_BARS: dict[str, Callable[[Bars, int, Params, bool], Series]] = {
    "SPREAD_BP": _spread_bp,
    **reference_ranges.ORACLES,
    **HLCV,
}
_FIRST_LEGACY: dict[str, Callable[[int, Params], int]] = {
    "IDENT": lambda w, p: 0,
    "LOGRET": lambda w, p: 1,
    "MOMENTUM": lambda w, p: w,
    "SMA": lambda w, p: w - 1,
    "EMA": lambda w, p: 0,
    "RSI": lambda w, p: w + 1,
    "ZWIN": lambda w, p: w,
    "SPREAD_BP": lambda w, p: 0,
    "ROC": lambda w, p: w,
    "VOLATILITY": lambda w, p: w,
    "BOLLINGER_MIDDLE": lambda w, p: w,
    "BOLLINGER_UPPER": lambda w, p: w,
    "BOLLINGER_LOWER": lambda w, p: w,
    "MACD_LINE": lambda w, p: 0,
    "MACD_SIGNAL": lambda w, p: 0,
    "MACD_HISTOGRAM": lambda w, p: 0,
    "PARKINSON": lambda w, p: w - 1,
    "GARMAN_KLASS": lambda w, p: w - 1,
    "PRICE_IMPACT": lambda w, p: 1,
    "ORDER_FLOW": lambda w, p: 0,
    "MARKET_DEPTH": lambda w, p: 0,
    "BID_ASK_RATIO": lambda w, p: 0,
    **HLCV_FIRST_LEGACY,
}


def build_features(
    bars: object, spec: str | os.PathLike[str] | Mapping[str, Any] | FeatureSpec
) -> npt.NDArray[np.float64]:
    """Return the features as float64 [N, F]; arguments as for tfa_kernels.build_features."""
    spec = load_spec(spec)
    legacy = spec.convention == "legacy"
    wanted = {bar for f in spec.features for name in f.columns for bar in bar_columns(name)}
    columns = read_columns(bars, sorted(wanted))
    rows = next(iter(columns.values())).size
    out = np.full((rows, len(spec.features)), 0.0 if legacy else math.nan)
    offsets = series_offsets(bars, rows)
    for start, stop in pairwise(offsets.tolist()):
        series = {name: _inputs(column[start:stop], legacy) for name, column in columns.items()}
        for c, feature in enumerate(spec.features):
            window = feature.window if feature.window is not None else 1
            first = _FIRST_LEGACY[feature.op](window, feature.params) if legacy else 0
            begin = 0
            if feature.op in _BARS:
                values = _BARS[feature.op](series, window, feature.params, legacy)
            else:
                x = series["close" if feature.columns == ("logret",) else feature.columns[0]]
                if feature.columns == ("logret",):
                    x = _returns(x, legacy)
                    if legacy:
                        x = [0.0, *(float(np.float32(r)) for r in x[1:])] if x else x
                    else:
                        begin = 1
                x = x[begin:]
                if feature.op in _WITH_KEYS:
                    values = _WITH_KEYS[feature.op](x, window, feature.params, legacy)
                else:
                    values = _ONE_COLUMN[feature.op](x, window, legacy)
            out[start + begin + first : stop, c] = values[first:]
        out[start : min(start + spec.emit_from_index, stop)] = spec.pad_value
    return out


def _inputs(column: npt.NDArray[Any], legacy: bool) -> Series:
    with np.errstate(over="ignore"):
        column = column.astype(np.float32) if legacy else column
    values: Series = column.astype(np.float64).tolist()
    return values


def gather_windows(X: npt.NDArray[Any], starts: npt.ArrayLike, window: int) -> npt.NDArray[Any]:
    """Return X[s : s + window] for every s of starts, stacked: [B, window, F]."""
    out = np.empty((len(np.asarray(starts)), window, X.shape[1]), X.dtype)
    for b, s in enumerate(np.asarray(starts).tolist()):
        for t in range(window):
            out[b, t] = X[s + t]
    return out
