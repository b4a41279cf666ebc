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

from tfa_kernels._bars import read_columns, series_offsets
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
}
_BARS: dict[str, Callable[[Bars, int, Params, bool], Series]] = {
    "SPREAD_BP": _spread_bp,
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
    **HLCV_FIRST_LEGACY,
}


def build_features(
    bars: object, spec: str | os.PathLike[str] | Mapping[str, Any] | FeatureSpec
) -> npt.NDArray[np.float64]:
    """Return the features as float64 [N, F]; arguments as for tfa_kernels.build_features."""
    spec = load_spec(spec)
    legacy = spec.convention == "legacy"
    wanted = {"close" if name == "logret" else name for f in spec.features for name in f.columns}
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
                values = _ONE_COLUMN[feature.op](x[begin:], window, legacy)
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
