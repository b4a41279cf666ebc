# mypy: ignore-errors
"""The report's column loops: float32 in, a float32 column out, float64 running sums."""

import numpy as np
from numba import njit


@njit(cache=True)
def write_column(matrix, c, column):
    for r in range(matrix.shape[0]):
        matrix[r, c] = column[r]


@njit(cache=True)
def logret(x):
    out = np.zeros_like(x)
    floor = np.float32(1e-12)
    for t in range(1, len(x)):
        out[t] = np.log(max(x[t], floor)) - np.log(max(x[t - 1], floor))
    return out


@njit(cache=True)
def sma(x, w):
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
def ema(x, w):
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
def rsi(x, w):
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
def zwin(x, w):
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
            mean = total / w
            std = np.sqrt(max(squares / w - mean * mean, 0.0))
            out[t] = (v - mean) / std if std > 1e-8 else 0.0
    return out
