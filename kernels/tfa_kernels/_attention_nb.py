# mypy: ignore-errors
"""Attention inside short windows: a head's whole window stays in a core's first caches.

Rows of a window are copied into padded pieces of memory, whole vectors of them, all heads at once:
memory is read and written in order. Scores are kept with queries along the vectors, so that maxima
and sums of a softmax are those of vectors.
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
def _copy(source, at, columns, factor, out, to):
    """A row of a flat array, times ``factor``, to another."""
    done = columns // WIDTH * WIDTH
    for c in range(0, done, WIDTH):
        store(out, to + c, load(source, at + c) * spread(factor))
    for c in range(done, columns):
        out[to + c] = source[at + c] * factor


@inline_kernel
def _take(qkv, at, T, W, heads, factor, q, k, v, size, width):
    """A window's rows at ``at``, read one after the other, to heads of ``size``; q times factor."""
    one, d = np.float32(1.0), W * heads
    for row in range(T):
        for head in range(heads):
            i, j = at + row * 3 * d + head * W, head * size + row * width
            _copy(qkv, i, W, factor, q, j)
            _copy(qkv, i + d, W, one, k, j)
            _copy(qkv, i + 2 * d, W, one, v, j)


@inline_kernel
def _turned(source, at, rows, columns, out):
    """out[c, r] = source[r, c], flat arrays of whole vectors, the source's from ``at`` on."""
    for r in range(0, rows, BLOCK):
        for c in range(0, columns, BLOCK):
            turn(source, at + r * columns + c, columns, out, c * rows + r, rows)


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
def _divide(rows, columns, sums, made, at):
    """Each of the rows at ``at`` over its sum."""
    for row in range(rows):
        inverse = spread(np.float32(1.0) / sums[row])
        first = at + row * columns
        for c in range(first, first + columns, WIDTH):
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
    size = rows * width
    for number in prange((windows + group - 1) // group):
        # What is past the window or the head counts nowhere.
        q, k, v = np.zeros((3, heads * size), np.float32)
        turned, scores = np.empty(size, np.float32), np.empty(rows * rows, np.float32)
        sums = np.empty(rows, np.float32)
        first = np.int64(number) * group
        for window in range(first, min(first + group, windows)):
            _take(qkv, window * T * 3 * d, T, W, heads, scale * LOG2_E, q, k, v, size, width)
            for head in range(heads):
                at = head * size
                _turned(q, at, rows, width, turned)
                product((k, at, width, 1), (turned, 0, rows, PANEL), W,
                        (scores, 0, rows), rows, rows, False)  # fmt: skip
                _softmax(scores, T, rows, sums)
                # In place of the queries, which are not read again.
                product((scores, 0, 1, rows), (v, at, width, PANEL), T,
                        (q, at, width), rows, width, False)  # fmt: skip
                _divide(T, width, sums, q, at)
            for row in range(T):
                for head in range(heads):
                    to = (window * T + row) * d + head * W
                    _copy(q, head * size + row * width, W, np.float32(1.0), out, to)


@parallel_kernel
def attention_gradient(gradient, qkv, windows, T, W, heads, scale, group, out):
    """out [b T, 3 d], the gradient of qkv, from that of what `attention` gives; all flat."""
    d = W * heads
    rows, width = (T + WIDTH - 1) // WIDTH * WIDTH, (W + WIDTH - 1) // WIDTH * WIDTH
    size, one = rows * width, np.float32(1.0)
    for number in prange((windows + group - 1) // group):
        # What is past the window or the head counts nowhere.
        q, k, v, g = np.zeros((4, heads * size), np.float32)
        turned = np.empty(size, np.float32)
        weights, changes = np.empty((2, rows * rows), np.float32)
        sums = np.empty(rows, np.float32)
        first = np.int64(number) * group
        for window in range(first, min(first + group, windows)):
            start = window * T * d
            _take(qkv, 3 * start, T, W, heads, scale * LOG2_E, q, k, v, size, width)
            for row in range(T):
                for head in range(heads):
                    to = head * size + row * width
                    _copy(gradient, start + row * d + head * W, W, one, g, to)
            for head in range(heads):
                at = head * size
                _turned(q, at, rows, width, turned)
                product((k, at, width, 1), (turned, 0, rows, PANEL), W,
                        (weights, 0, rows), rows, rows, False)  # fmt: skip
                _softmax(weights, T, rows, sums)
                _turned(g, at, rows, width, turned)
                product((v, at, width, 1), (turned, 0, rows, PANEL), W,
                        (changes, 0, rows), rows, rows, False)  # fmt: skip
                _softmax_gradient(weights, changes, T, rows, sums)
                # Each in place of what is not read again.
                product((changes, 0, 1, rows), (k, at, width, PANEL), T,
                        (v, at, width), rows, width, False)  # fmt: skip
                product((changes, 0, rows, 1), (q, at, width, PANEL), T,
                        (k, at, width), rows, width, False)  # fmt: skip
                product((weights, 0, rows, 1), (g, at, width, PANEL), T,
                        (q, at, width), rows, width, False)  # fmt: skip
            for row in range(T):
                for head in range(heads):
                    i, to = head * size + row * width, 3 * (start + row * d) + head * W
                    _copy(v, i, W, scale, out, to)
                    # The queries were scaled, for weights that are powers of 2.
                    _copy(k, i, W, one / LOG2_E, out, to + d)
                    _copy(q, i, W, one, out, to + 2 * d)
