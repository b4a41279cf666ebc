"""Naive oracle of what a window's last row attends to: the definition, value by value."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from tfa_kernels.reference_encoder import _norm, _norm_gradient

__all__ = ["last_attention", "last_attention_gradient"]

Array = npt.NDArray[np.float64]


def last_attention(x: Any, norm: Any, sought: Any) -> Array:
    """softmax(sought n^T) n of each window, n its normed rows: float64 [B, heads, d]."""
    out = np.zeros(np.shape(sought))
    for b, (rows, queries) in enumerate(zip(x.tolist(), sought.tolist(), strict=True)):
        normed = [_norm(row, norm) for row in rows]
        for head, query in enumerate(queries):
            weights = _weights(query, normed)
            out[b, head] = [_dot(weights, column) for column in zip(*normed, strict=True)]
    return out


def last_attention_gradient(gradient: Any, x: Any, norm: Any, sought: Any) -> list[Array]:
    """Gradients of x, of the norm's weight and bias, and of ``sought``, by the chain rule.

    With weights p and the result o = p n: n_t changes o by p_t, and score t, p_t (n_t - o).
    """
    of_x, of_sought = np.zeros(np.shape(x)), np.zeros(np.shape(sought))
    sums = [np.zeros(np.shape(part)) for part in norm[:2]]
    for b, (rows, queries, given) in enumerate(
        zip(x.tolist(), sought.tolist(), gradient.tolist(), strict=True)
    ):
        normed = [_norm(row, norm) for row in rows]
        of_normed = np.zeros(np.shape(normed))
        for head, (query, g) in enumerate(zip(queries, given, strict=True)):
            weights = _weights(query, normed)
            changes = [_dot(g, row) for row in normed]
            shared = _dot(weights, changes)
            for t, (weight, change) in enumerate(zip(weights, changes, strict=True)):
                of_score = weight * (change - shared)
                of_normed[t] += [weight * a + of_score * q for a, q in zip(g, query, strict=True)]
                of_sought[b, head] += [of_score * n for n in normed[t]]
        for t, row in enumerate(rows):
            of_x[b, t] = _norm_gradient(of_normed[t].tolist(), row, norm, sums)
    return [of_x, *sums, of_sought]


def _weights(query: list[float], rows: list[list[float]]) -> list[float]:
    scores = [_dot(query, row) for row in rows]
    powers = [math.exp(score - max(scores)) for score in scores]
    return [power / math.fsum(powers) for power in powers]


def _dot(a: Any, b: Any) -> float:
    return math.fsum(p * q for p, q in zip(a, b, strict=True))
