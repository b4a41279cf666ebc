"""The report's feature builder: one column at a time, each written into the matrix by stride.

The report's builder is C++; this is the same structure compiled by Numba, on one thread, so
that the comparison is with compiled code. Inputs are float32 and each op fills a float32
column, as there; running sums are float64, so that the two sides agree.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numba import njit
from numpy.typing import NDArray
from tfa_kernels import FeatureSpec, load_spec

from tfa_perf.data.bars import Bars

__all__ = ["build_features"]


def build_features(bars: Bars, spec: str | Path | FeatureSpec) -> NDArray[np.float32]:
    """Features of ``bars``, float32 [N, F], in the legacy convention, as one series.

    Raises
    ------
    ValueError : the spec is not in the legacy convention, or names an op that is not here.
    """
    spec = load_spec(spec)
    if spec.convention != "legacy":
        raise ValueError(f"spec: the report's builder is 'legacy', got {spec.convention!r}")
    columns = {
        name: getattr(bars, name).astype(np.float32)
        for name in ("open", "high", "low", "close", "volume")
    }
    columns["logret"] = _logret(columns["close"])
    matrix = np.empty((len(bars), len(spec.features)), dtype=np.float32)
    for c, feature in enumerate(spec.features):
        if feature.op not in _OPS:
            raise ValueError(f"features[{c}] {feature.name!r}: op {feature.op!r} is not here")
        source = columns.get(feature.source, columns["close"])
        _write_column(matrix, c, _OPS[feature.op](source, feature.window))
    if spec.emit_from_index:
        matrix[: spec.emit_from_index] = spec.pad_value
    return matrix


@njit(cache=True)
def _write_column(matrix, c, column):
    for r in range(matrix.shape[0]):
        matrix[r, c] = column[r]


@njit(cache=True)
def _logret(x):
    out = np.zeros_like(x)
    floor = np.float32(1e-12)
    for t in range(1, len(x)):
        out[t] = np.log(max(x[t], floor)) - np.log(max(x[t - 1], floor))
    return out


@njit(cache=True)
def _sma(x, w):
    out = np.zeros_like(x)
    total = 0.0
    for t in range(len(x)):
        total += x[t]
        if t >= w:
            total -= x[t - w]
        if t >= w - 1:
            out[t] = total / w
    return out


@njit(cache=True)
def _ema(x, w):
    out = np.zeros_like(x)
    if len(x) == 0:
        return out
    k = 2.0 / (w + 1.0)
    value = np.float64(x[0])
    out[0] = x[0]
    for t in range(1, len(x)):
        value = k * x[t] + (1.0 - k) * value
        out[t] = value
    return out


@njit(cache=True)
def _rsi(x, w):
    out = np.zeros_like(x)
    up = 0.0
    down = 0.0
    for t in range(1, len(x)):
        change = np.float64(x[t]) - np.float64(x[t - 1])
        gain = max(change, 0.0)
        loss = max(-change, 0.0)
        if t <= w:
            up += gain / w
            down += loss / w
        else:
            up = (up * (w - 1) + gain) / w
            down = (down * (w - 1) + loss) / w
            rs = up / down if down > 1e-12 else 0.0
            out[t] = 100.0 - 100.0 / (1.0 + rs)
    return out


@njit(cache=True)
def _zwin(x, w):
    out = np.zeros_like(x)
    total = 0.0
    squares = 0.0
    for t in range(len(x)):
        v = np.float64(x[t])
        total += v
        squares += v * v
        if t >= w:
            old = np.float64(x[t - w])
            total -= old
            squares -= old * old
        if t >= w - 1:
            mean = total / w
            std = np.sqrt(max(squares / w - mean * mean, 0.0))
            out[t] = (v - mean) / std if std > 1e-8 else 0.0
    return out


_OPS = {
    "IDENT": lambda x, w: x,
    "LOGRET": lambda x, w: _logret(x),
    "SMA": _sma,
    "EMA": _ema,
    "RSI": _rsi,
    "ZWIN": _zwin,
}
