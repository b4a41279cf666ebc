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
from tfa_kernels._memory_nb import scratch
from tfa_kernels._products_nb import PANEL, nothing, nowhere, product
from tfa_kernels._vectors_nb import (
    LOG2_E,
    WIDTH,
    exp2,
    largest,
    load,
    multiply_add,
    spread,
    store,
    turn,
)


@inline_kernel
def _copy(source, begin, steps, shape, factor, out, to, out_steps, adds=False):
    """Columns of heads in rows, ``shape`` T, heads and W, times ``factor``, one after the other.

    Steps are those to the next row and to the next head. ``adds`` to what is there.
    """
    T, heads, W = shape
    whole, times = W // WIDTH * WIDTH, spread(factor)
    for row in range(T):
        for head in range(heads):
            i = begin + row * steps[0] + head * steps[1]
            j = to + row * out_steps[0] + head * out_steps[1]
            for c in range(0, whole, WIDTH):
                value = load(source, i + c) * times
                store(out, j + c, load(out, j + c) + value if adds else value)
            for c in range(whole, W):
                rest = source[i + c] * factor
                out[j + c] = out[j + c] + rest if adds else rest


@inline_kernel
def _turned(source, at, rows, columns, out):
    """out[c, r] = source[r, c], flat arrays of whole vectors, the source's from ``at`` on."""
    for r in range(0, rows, BLOCK):
        for c in range(0, columns, BLOCK):
            turn(source, at + r * columns + c, columns, out, c * rows + r, rows)


@inline_kernel
def _softmax(scores, T, width, sums):
    """2 ** (scores - their largest) over the T rows of [T, width], and the sums of a column."""
    last = (T - 1) * width
    for i in range(0, width, WIDTH):
        # Even and odd rows apart, here and below: two chains of operations that wait for the last.
        even, odd = load(scores, i), load(scores, last + i)
        for at in range(i, last, 2 * width):
            even, odd = largest(load(scores, at), even), largest(load(scores, at + width), odd)
        most = largest(even, odd)
        total = spread(np.float32(0.0))
        for at in range(i, last + width, width):
            weight = exp2(load(scores, at) - most)
            store(scores, at, weight)
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
    zero = spread(np.float32(0.0))
    for i in range(0, width, WIDTH):
        inverse = spread(np.float32(1.0)) / load(sums, i)
        even, odd = zero, zero
        for row in range(T):
            at = row * width + i
            weight = load(weights, at) * inverse
            store(weights, at, weight)
            even, odd = odd, multiply_add(weight, load(changes, at), even)
        shared = even + odd
        for row in range(T):
            at = row * width + i
            store(changes, at, (load(changes, at) - shared) * load(weights, at))


@parallel_kernel
def attention(qkv, windows, T, W, heads, scale, group, step, out):
    """out [b T, d] of queries, keys and values, T rows of 3 d a window, both flat.

    A thread takes ``group`` windows at a time, which begin ``step`` values after each other.
    """
    d = W * heads
    rows, width = (T + WIDTH - 1) // WIDTH * WIDTH, (W + WIDTH - 1) // WIDTH * WIDTH
    size, one = rows * width, np.float32(1.0)
    shape, given, apart = (T, heads, W), (3 * d, W), (width, size)
    for number in prange((windows + group - 1) // group):
        # What is past the window or the head counts nowhere.
        q, k, v = scratch(heads * size), scratch(heads * size), scratch(heads * size)
        q[:], k[:], v[:] = 0.0, 0.0, 0.0
        turned, scores, sums = scratch(size), scratch(rows * rows), scratch(rows)
        first = np.int64(number) * group
        for window in range(first, min(first + group, windows)):
            start = window * step
            _copy(qkv, start, given, shape, scale * LOG2_E, q, 0, apart)
            _copy(qkv, start + d, given, shape, one, k, 0, apart)
            _copy(qkv, start + 2 * d, given, shape, one, v, 0, apart)
            for head in range(heads):
                # The next window's rows, read while this one's are worked on.
                at, half = head * size, step // heads // 2
                coming = start + 3 * T * d + 2 * head * half
                _turned(q, at, rows, width, turned)
                product((k, at, width, 1), (turned, 0, rows, PANEL), W, nothing(scores),
                        (scores, 0, rows), rows, rows, (qkv, coming, half))  # fmt: skip
                _softmax(scores, T, rows, sums)
                # In place of the queries, which are not read again.
                product((scores, 0, 1, rows), (v, at, width, PANEL), T, nothing(q),
                        (q, at, width), rows, width, (qkv, coming + half, half))  # fmt: skip
                _divide(T, width, sums, q, at)
            _copy(q, 0, apart, shape, one, out, window * T * d, (d, W))


@parallel_kernel
def attention_gradient(gradient, qkv, windows, T, W, heads, scale, group, step, out):
    """The gradient of qkv, from that of what `attention` gives; all flat.

    out has it as qkv lies, where windows share no row. Where they do, each group has its sums of
    rows, one group's behind the other's.
    """
    d = W * heads
    shared, room = step < 3 * T * d, (group - 1) * step + 3 * T * d
    rows, width = (T + WIDTH - 1) // WIDTH * WIDTH, (W + WIDTH - 1) // WIDTH * WIDTH
    size, one = rows * width, np.float32(1.0)
    shape, given, apart = (T, heads, W), (3 * d, W), (width, size)
    for number in prange((windows + group - 1) // group):
        # What is past the window or the head counts nowhere.
        q, k = scratch(heads * size), scratch(heads * size)
        v, g = scratch(heads * size), scratch(heads * size)
        q[:], k[:], v[:], g[:] = 0.0, 0.0, 0.0, 0.0
        turned, sums = scratch(size), scratch(rows)
        weights, changes = scratch(rows * rows), scratch(rows * rows)
        first, place = np.int64(number) * group, np.int64(number) * room
        if shared:
            out[place : place + room] = 0.0
        for window in range(first, min(first + group, windows)):
            start, given_start = window * step, window * T * d
            _copy(qkv, start, given, shape, scale * LOG2_E, q, 0, apart)
            _copy(qkv, start + d, given, shape, one, k, 0, apart)
            _copy(qkv, start + 2 * d, given, shape, one, v, 0, apart)
            _copy(gradient, given_start, (d, W), shape, one, g, 0, apart)
            for head in range(heads):
                # The next window's rows, read while this one's are worked on.
                at, part, third = head * size, T * W, step // heads // 3
                coming = start + 3 * T * d + 3 * head * third
                next_given = given_start + T * d + head * part
                _turned(q, at, rows, width, turned)
                product((k, at, width, 1), (turned, 0, rows, PANEL), W, nothing(weights),
                        (weights, 0, rows), rows, rows, (qkv, coming, third))  # fmt: skip
                _softmax(weights, T, rows, sums)
                _turned(g, at, rows, width, turned)
                product((v, at, width, 1), (turned, 0, rows, PANEL), W, nothing(changes),
                        (changes, 0, rows), rows, rows, (qkv, coming + third, third))  # fmt: skip
                _softmax_gradient(weights, changes, T, rows, sums)
                # Each in place of what is not read again.
                product((changes, 0, 1, rows), (k, at, width, PANEL), T, nothing(v),
                        (v, at, width), rows, width, (qkv, coming + 2 * third, third))  # fmt: skip
                product((changes, 0, rows, 1), (q, at, width, PANEL), T, nothing(k),
                        (k, at, width), rows, width, (gradient, next_given, part))  # fmt: skip
                product((weights, 0, rows, 1), (g, at, width, PANEL), T, nothing(q),
                        (q, at, width), rows, width, nowhere(q))  # fmt: skip
            _copy(v, 0, apart, shape, scale, out, place, given, shared)
            # The queries were scaled, for weights that are powers of 2.
            _copy(k, 0, apart, shape, one / LOG2_E, out, place + d, given, shared)
            _copy(q, 0, apart, shape, one, out, place + 2 * d, given, shared)
            place += step


@parallel_kernel
def add_groups(sums, windows, T, columns, group, out):
    """out [windows + T - 1, columns]: what groups of windows have of each row, in their order."""
    room = (group + T - 1) * columns
    for row in prange(windows + T - 1):
        r = np.int64(row)
        to = r * columns
        out[to : to + columns] = 0.0
        for number in range(max(0, r - T + 1) // group, min(r, windows - 1) // group + 1):
            at = number * room + (r - number * group) * columns
            for c in range(columns):
                out[to + c] += sums[at + c]
