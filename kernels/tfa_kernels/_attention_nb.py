# mypy: ignore-errors
"""Attention inside short windows: a head's whole window stays in a core's first caches.

Rows of a window are copied into padded pieces of memory, whole vectors of them; scores are kept
with queries along the vectors, so that maxima and sums of a softmax are those of vectors.
"""

import numpy as np
from numba import prange

from tfa_kernels._jit import inline_kernel, parallel_kernel
from tfa_kernels._lanes_nb import BLOCK
from tfa_kernels._products_nb import PANEL, product
from tfa_kernels._vectors_nb import (
    WIDTH,
    exp2,
    largest,
    load,
    multiply_add,
    spread,
    store,
    turn,
)

LOG2_E = np.float32(1.4426950408889634)


@inline_kernel
def _copy(source, at, stride, rows, columns, factor, out, to, out_stride):
    """Rows of a flat array, ``stride`` apart, times ``factor`` to rows of another."""
    factors = spread(factor)
    for row in range(rows):
        i, j = at + row * stride, to + row * out_stride
        done = columns // WIDTH * WIDTH
        for c in range(0, done, WIDTH):
            store(out, j + c, load(source, i + c) * factors)
        for c in range(done, columns):
            out[j + c] = source[i + c] * factor


@inline_kernel
def _turned(source, rows, columns, out):
    """out[c, r] = source[r, c], flat arrays of whole vectors."""
    for r in range(0, rows, BLOCK):
        for c in range(0, columns, BLOCK):
            turn(source, r * columns + c, columns, out, c * rows + r, rows)


@inline_kernel
def _softmax(scores, T, width, sums):
    """2 ** (scores - their largest) over the T rows of [T, width], and the sums of a column."""
    for i in range(0, width, WIDTH):
        most = load(scores, i)
        for j in range(1, T):
            most = largest(load(scores, j * width + i), most)
        total = spread(np.float32(0.0))
        for j in range(T):
            weight = exp2(load(scores, j * width + i) - most)
            store(scores, j * width + i, weight)
            total = total + weight
        store(sums, i, total)


@inline_kernel
def _divide(rows, columns, sums, made):
    """Each of the rows over its sum."""
    for row in range(rows):
        inverse = spread(np.float32(1.0) / sums[row])
        for c in range(row * columns, (row + 1) * columns, WIDTH):
            store(made, c, load(made, c) * inverse)


@inline_kernel
def _softmax_gradient(weights, changes, T, width, sums):
    """Weights [T, width] over their sums, and from their gradient that of the scores."""
    for i in range(0, width, WIDTH):
        inverse = spread(np.float32(1.0)) / load(sums, i)
        shared = spread(np.float32(0.0))
        for j in range(T):
            at = j * width + i
            weight = load(weights, at) * inverse
            store(weights, at, weight)
            shared = multiply_add(weight, load(changes, at), shared)
        for j in range(T):
            at = j * width + i
            store(changes, at, (load(changes, at) - shared) * load(weights, at))


@parallel_kernel
def attention(qkv, windows, T, W, heads, scale, group, out):
    """out [b T, d] of queries, keys and values [b T, 3 d], both flat.

    A thread takes ``group`` windows at a time.
    """
    d = W * heads
    rows, width = (T + WIDTH - 1) // WIDTH * WIDTH, (W + WIDTH - 1) // WIDTH * WIDTH
    one = np.float32(1.0)
    for number in prange((windows + group - 1) // group):
        # What is past the window or the head stays 0.
        q, k, v, turned, mixed = np.zeros((5, rows * width), np.float32)
        scores, sums = np.zeros(rows * rows, np.float32), np.empty(rows, np.float32)
        first = np.int64(number) * group
        for window in range(first, min(first + group, windows)):
            for head in range(heads):
                at, to = window * T * 3 * d + head * W, window * T * d + head * W
                _copy(qkv, at, 3 * d, T, W, scale * LOG2_E, q, 0, width)
                _copy(qkv, at + d, 3 * d, T, W, one, k, 0, width)
                _copy(qkv, at + 2 * d, 3 * d, T, W, one, v, 0, width)
                _turned(q, rows, width, turned)
                product((k, 0, width, 1), (turned, 0, rows, PANEL), W,
                        (scores, 0, rows), rows, rows, False)  # fmt: skip
                _softmax(scores, T, rows, sums)
                product((scores, 0, 1, rows), (v, 0, width, PANEL), T,
                        (mixed, 0, width), rows, width, False)  # fmt: skip
                _divide(T, width, sums, mixed)
                _copy(mixed, 0, width, T, W, one, out, to, d)


@parallel_kernel
def attention_gradient(gradient, qkv, windows, T, W, heads, scale, group, out):
    """out [b T, 3 d], the gradient of qkv, from that of what `attention` gives; all flat."""
    d = W * heads
    rows, width = (T + WIDTH - 1) // WIDTH * WIDTH, (W + WIDTH - 1) // WIDTH * WIDTH
    one = np.float32(1.0)
    for number in prange((windows + group - 1) // group):
        # What is past the window or the head stays 0.
        q, k, v, g, turned, made = np.zeros((6, rows * width), np.float32)
        weights, changes = np.zeros((2, rows * rows), np.float32)
        sums = np.empty(rows, np.float32)
        first = np.int64(number) * group
        for window in range(first, min(first + group, windows)):
            for head in range(heads):
                at, to = window * T * 3 * d + head * W, window * T * d + head * W
                _copy(qkv, at, 3 * d, T, W, scale * LOG2_E, q, 0, width)
                _copy(qkv, at + d, 3 * d, T, W, one, k, 0, width)
                _copy(qkv, at + 2 * d, 3 * d, T, W, one, v, 0, width)
                _copy(gradient, to, d, T, W, one, g, 0, width)
                _turned(q, rows, width, turned)
                product((k, 0, width, 1), (turned, 0, rows, PANEL), W,
                        (weights, 0, rows), rows, rows, False)  # fmt: skip
                _softmax(weights, T, rows, sums)
                _turned(g, rows, width, turned)
                product((v, 0, width, 1), (turned, 0, rows, PANEL), W,
                        (changes, 0, rows), rows, rows, False)  # fmt: skip
                _softmax_gradient(weights, changes, T, rows, sums)
                product((changes, 0, 1, rows), (k, 0, width, PANEL), T,
                        (made, 0, width), rows, width, False)  # fmt: skip
                _copy(made, 0, width, T, W, scale, out, at, 3 * d)
                product((changes, 0, rows, 1), (q, 0, width, PANEL), T,
                        (made, 0, width), rows, width, False)  # fmt: skip
                # The copy of the queries is scaled, for weights that are powers of 2.
                _copy(made, 0, width, T, W, one / LOG2_E, out, at + d, 3 * d)
                product((weights, 0, rows, 1), (g, 0, width, PANEL), T,
                        (made, 0, width), rows, width, False)  # fmt: skip
                _copy(made, 0, width, T, W, one, out, at + 2 * d, 3 * d)
