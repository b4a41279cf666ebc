"""Naive oracles of attention inside windows: the definition in plain Python, value by value."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["window_attention", "window_attention_gradient"]

Rows = list[list[float]]


def window_attention(qkv: npt.NDArray[Any], heads: int) -> npt.NDArray[np.float64]:
    """softmax(q k^T / sqrt(d / heads)) v of each head of each window: float64 [B, T, d]."""
    windows, rows, columns = qkv.shape
    out = np.zeros((windows, rows, columns // 3))
    for b, head, (q, k, v) in _heads(qkv, heads):
        for i, weights in enumerate(_weights(q, k)):
            out[b, i, head] = [_dot(weights, column) for column in zip(*v, strict=True)]
    return out


def window_attention_gradient(
    gradient: npt.NDArray[Any], qkv: npt.NDArray[Any], heads: int
) -> npt.NDArray[np.float64]:
    """Gradient of qkv by the chain rule, from that of the result: float64 [B, T, 3 d].

    With weights p and the result o = p v: dv_j is the sum of p_ij g_i; the change of weight ij is
    g_i v_j, that of its score p_ij (g_i v_j - sum over l of p_il g_i v_l).
    """
    d = qkv.shape[2] // 3
    out = np.zeros(qkv.shape)
    for b, head, (q, k, v) in _heads(qkv, heads):
        scale = 1 / math.sqrt(head.stop - head.start)
        at = [slice(head.start + part * d, head.stop + part * d) for part in range(3)]
        for i, weights in enumerate(_weights(q, k)):
            g = gradient[b, i, head].tolist()
            changes = [_dot(g, row) for row in v]
            shared = _dot(weights, changes)
            for j, weight in enumerate(weights):
                change = weight * (changes[j] - shared) * scale
                out[b, i, at[0]] += [change * x for x in k[j]]
                out[b, j, at[1]] += [change * x for x in q[i]]
                out[b, j, at[2]] += [weight * x for x in g]
    return out


def _heads(qkv: npt.NDArray[Any], heads: int) -> Any:
    """Window, columns of the result, and (q, k, v) rows of each head of each window."""
    d = qkv.shape[2] // 3
    width = d // heads
    for b, window in enumerate(qkv):
        for first in range(0, d, width):
            yield b, slice(first, first + width), [
                window[:, part * d + first : part * d + first + width].tolist()
                for part in range(3)
            ]  # fmt: skip


def _weights(q: Rows, k: Rows) -> Rows:
    found = []
    for row in q:
        scores = [_dot(row, key) / math.sqrt(len(row)) for key in k]
        largest = max(scores)
        powers = [math.exp(score - largest) for score in scores]
        found.append([power / math.fsum(powers) for power in powers])
    return found


def _dot(a: Any, b: Any) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))
