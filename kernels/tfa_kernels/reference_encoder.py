"""Naive oracles of an encoder layer around its attention: the definitions, value by value."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "after_attention",
    "after_attention_gradient",
    "before_attention",
    "before_attention_gradient",
]

Row = list[float]
Gradients = list[npt.NDArray[np.float64]]


def before_attention(x: Any, norm: Any, projection: Any) -> npt.NDArray[np.float64]:
    """The linear projection of the normed rows: float64 [rows, columns]."""
    rows = [_linear(_norm(row, norm), projection) for row in _lists(x)]
    return np.array(rows).reshape(len(x), len(projection.bias))


def before_attention_gradient(
    gradient: Any, x: Any, norm: Any, projection: Any, passed: Any
) -> Gradients:
    """Gradients of x, ``passed`` added, of the norm and of the projection, by the chain rule."""
    of_x = np.array(passed, np.float64)
    sums = [np.zeros(np.shape(part)) for part in (*norm[:2], *projection)]
    for r, (g, row) in enumerate(zip(_lists(gradient), _lists(x), strict=True)):
        of_normed = _linear_gradient(g, _norm(row, norm), projection, sums[2:])
        of_x[r] += _norm_gradient(of_normed, row, norm, sums[:2])
    return [of_x, *sums]


def after_attention(
    x: Any, mixed: Any, output: Any, norm: Any, first: Any, second: Any
) -> npt.NDArray[np.float64]:
    """m = x + output(mixed); m + second(gelu(first(norm(m)))): float64 [rows, d]."""
    out = np.zeros(np.shape(x))
    for r, (row, mix) in enumerate(zip(_lists(x), _lists(mixed), strict=True)):
        middle = [a + b for a, b in zip(row, _linear(mix, output), strict=True)]
        active = [_gelu(v) for v in _linear(_norm(middle, norm), first)]
        out[r] = [a + b for a, b in zip(middle, _linear(active, second), strict=True)]
    return out


def after_attention_gradient(
    gradient: Any, x: Any, mixed: Any, output: Any, norm: Any, first: Any, second: Any
) -> Gradients:
    """Gradients of all arguments in turn, a weight before its bias, by the chain rule."""
    of_x, of_mixed = np.zeros(np.shape(x)), np.zeros(np.shape(x))
    parts = (*output, *norm[:2], *first, *second)
    sums = [np.zeros(np.shape(part)) for part in parts]
    for r, (g, row, mix) in enumerate(zip(_lists(gradient), _lists(x), _lists(mixed), strict=True)):
        middle = [a + b for a, b in zip(row, _linear(mix, output), strict=True)]
        normed = _norm(middle, norm)
        entering = _linear(normed, first)
        changes = _linear_gradient(g, [_gelu(v) for v in entering], second, sums[6:])
        changes = [c * _gelu_slope(v) for c, v in zip(changes, entering, strict=True)]
        of_normed = _linear_gradient(changes, normed, first, sums[4:6])
        of_middle = [
            a + b
            for a, b in zip(g, _norm_gradient(of_normed, middle, norm, sums[2:4]), strict=True)
        ]
        of_x[r] = of_middle
        of_mixed[r] = _linear_gradient(of_middle, mix, output, sums[:2])
    return [of_x, of_mixed, *sums]


def _norm(row: Row, norm: Any) -> Row:
    return [
        v * weight + bias
        for v, weight, bias in zip(_standardised(row, norm)[0], *_lists(norm[:2]), strict=True)
    ]


def _standardised(row: Row, norm: Any) -> tuple[Row, float]:
    mean = math.fsum(row) / len(row)
    variance = math.fsum((v - mean) ** 2 for v in row) / len(row)
    scale = 1 / math.sqrt(variance + float(norm.eps))
    return [(v - mean) * scale for v in row], scale


def _norm_gradient(gradient: Row, row: Row, norm: Any, sums: Gradients) -> Row:
    """Gradient of the row; those of weight and bias are added to ``sums``."""
    standardised, scale = _standardised(row, norm)
    sums[0] += [g * v for g, v in zip(gradient, standardised, strict=True)]
    sums[1] += gradient
    changes = [g * w for g, w in zip(gradient, norm.weight.tolist(), strict=True)]
    mean = math.fsum(changes) / len(row)
    slope = _dot(changes, standardised) / len(row)
    return [(c - mean - v * slope) * scale for c, v in zip(changes, standardised, strict=True)]


def _linear(row: Row, linear: Any) -> Row:
    return [
        _dot(row, weights) + bias
        for weights, bias in zip(linear.weight.tolist(), linear.bias.tolist(), strict=True)
    ]


def _linear_gradient(gradient: Row, row: Row, linear: Any, sums: Gradients) -> Row:
    """Gradient of the row; those of weight and bias are added to ``sums``."""
    for column, g in enumerate(gradient):
        sums[0][column] += [g * v for v in row]
    sums[1] += gradient
    return [_dot(gradient, column) for column in linear.weight.T.tolist()]


def _gelu(v: float) -> float:
    return v * _share_below(v)


def _gelu_slope(v: float) -> float:
    return _share_below(v) + v * math.exp(-v * v / 2) / math.sqrt(2 * math.pi)


def _share_below(v: float) -> float:
    """Of a normal distribution's values."""
    return math.erfc(-v / math.sqrt(2)) / 2


def _lists(arrays: Any) -> Any:
    return [array.tolist() for array in arrays]


def _dot(a: Any, b: Any) -> float:
    return math.fsum(p * q for p, q in zip(a, b, strict=True))
