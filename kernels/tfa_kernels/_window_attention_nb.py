# mypy: ignore-errors
"""Attention inside one window: a head's whole window stays in a core's first caches.

Rows of a window are copied into padded pieces of memory, whole vectors of them, all heads at once:
memory is read and written in order. Scores are kept with queries along the vectors, so that maxima
and sums of a softmax are those of vectors. Whoever needs it calls it by address, a window at a
time: it is compiled once.
"""

import numpy as np
from numba import types

from tfa_kernels._addressed import AddressedKernel, call_address
from tfa_kernels._jit import inline_kernel
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
    own,
    spread,
    store,
    turn,
)

_ONE = np.float32(1.0)


@inline_kernel
def copy_heads(source, begin, steps, shape, factor, out, to, out_steps, adds=False):
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
def softmax(scores, T, width, sums):
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
def divide(rows, columns, sums, made, at):
    """Each of the rows at ``at`` over its sum."""
    for row in range(rows):
        inverse = spread(np.float32(1.0) / sums[row])
        first = at + row * columns
        for c in range(first, first + columns, WIDTH):
            store(made, c, load(made, c) * inverse)


@inline_kernel
def softmax_gradient(weights, changes, T, width, sums):
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


@inline_kernel
def _padded(T, W):
    """Rows of a window and columns of a head, whole vectors of them."""
    return (T + WIDTH - 1) // WIDTH * WIDTH, (W + WIDTH - 1) // WIDTH * WIDTH


@inline_kernel
def space(shape, parts, squares):
    """Memory for windows in turn: ``parts`` of all heads, one head turned, and ``squares`` T x T.

    ``shape`` is T, heads and W. What is past the window or the head counts nowhere.
    """
    T, heads, W = shape
    rows, width = _padded(T, W)
    room = scratch((parts * heads + 1) * rows * width + (squares * rows + 1) * rows)
    room[:] = 0.0
    return room


@inline_kernel
def _padded_heads(qkv, start, shape, scale, room):
    """Queries, scaled for powers of 2, keys and values of all heads, padded; and the room left."""
    T, heads, W = shape
    d, (rows, width) = W * heads, _padded(T, W)
    given, apart, size = (3 * d, W), (width, rows * width), heads * rows * width
    q, k, v = room[:size], room[size : 2 * size], room[2 * size : 3 * size]
    copy_heads(qkv, start, given, shape, scale * LOG2_E, q, 0, apart)
    copy_heads(qkv, start + d, given, shape, _ONE, k, 0, apart)
    copy_heads(qkv, start + 2 * d, given, shape, _ONE, v, 0, apart)
    return q, k, v, room[3 * size :]


def _attend(unit, _, heads):
    (qkv, out, room, coming), (start, to, place, share), (T, W, scale) = unit
    d, (rows, width) = W * heads, _padded(T, W)
    size, shape = rows * width, (T, heads, W)
    q, k, v, rest = _padded_heads(qkv, start, shape, scale, room)
    turned, scores, sums = rest[:size], rest[size : size + rows * rows], rest[size + rows * rows :]
    for head in range(heads):
        at = head * size
        _turned(q, at, rows, width, turned)
        product((k, at, width, 1), (turned, 0, rows, PANEL), W, nothing(scores),
                (scores, 0, rows), rows, rows, (coming, place, share))  # fmt: skip
        softmax(scores, T, rows, sums)
        # In place of the queries, which are not read again.
        product((scores, 0, 1, rows), (v, at, width, PANEL), T, nothing(q),
                (q, at, width), rows, width, (coming, place + share, share))  # fmt: skip
        divide(T, width, sums, q, at)
        place += 2 * share
    copy_heads(q, 0, (width, size), shape, _ONE, out, to, (d, W))


def _attend_gradient(unit, _, heads):
    (gradient, qkv, out, room, coming, other), places, (T, W, scale, adds) = unit
    begin, start, to, (place, share), (next_place, next_share) = places
    d, (rows, width) = W * heads, _padded(T, W)
    size, square = rows * width, rows * rows
    shape, given, apart = (T, heads, W), (3 * d, W), (width, size)
    q, k, v, rest = _padded_heads(qkv, start, shape, scale, room)
    g, rest = rest[: heads * size], rest[heads * size :]
    turned, rest = rest[:size], rest[size:]
    weights, changes, sums = rest[:square], rest[square : 2 * square], rest[2 * square :]
    copy_heads(gradient, begin, (d, W), shape, _ONE, g, 0, apart)
    for head in range(heads):
        at = head * size
        _turned(q, at, rows, width, turned)
        product((k, at, width, 1), (turned, 0, rows, PANEL), W, nothing(weights),
                (weights, 0, rows), rows, rows, (coming, place, share))  # fmt: skip
        softmax(weights, T, rows, sums)
        _turned(g, at, rows, width, turned)
        product((v, at, width, 1), (turned, 0, rows, PANEL), W, nothing(changes),
                (changes, 0, rows), rows, rows, (coming, place + share, share))  # fmt: skip
        softmax_gradient(weights, changes, T, rows, sums)
        # Each in place of what is not read again.
        product((changes, 0, 1, rows), (k, at, width, PANEL), T, nothing(v),
                (v, at, width), rows, width, (coming, place + 2 * share, share))  # fmt: skip
        product((changes, 0, rows, 1), (q, at, width, PANEL), T, nothing(k),
                (k, at, width), rows, width, (other, next_place, next_share))  # fmt: skip
        product((weights, 0, rows, 1), (g, at, width, PANEL), T, nothing(q),
                (q, at, width), rows, width, nowhere(q))  # fmt: skip
        place += 3 * share
        next_place += next_share
    copy_heads(v, 0, apart, shape, scale, out, to, given, adds)
    # The queries were scaled, for weights that are powers of 2.
    copy_heads(k, 0, apart, shape, _ONE / LOG2_E, out, to + d, given, adds)
    copy_heads(q, 0, apart, shape, _ONE, out, to + 2 * d, given, adds)


@inline_kernel
def attend(address, qkv, start, shape, scale, room, out, to, ahead):
    """out [T, d] at ``to`` of the queries, keys and values [T, 3 d] at ``start``, flat arrays.

    ``shape`` is T, heads and W, the columns of a head; ``room`` is `space` of three parts and one
    square. Meanwhile ``ahead``, of an array from somewhere on so many values, is read ahead.
    """
    T, heads, W = shape
    coming, place, size = ahead
    arrays = own(qkv), out, room, own(coming)
    places = start, to, place, size // (2 * heads)
    call_address(address, (arrays, places, (T, W, scale)), 0, heads)


@inline_kernel
def attend_gradient(address, gradient, begin, qkv, start, shape, scale, room, out, to, adds,
                    ahead, other):  # fmt: skip
    """out [T, 3 d] at ``to``, or what is added there: the gradient of qkv at ``start``.

    It is from that at ``begin`` of what `attend` gives. ``room`` is `space` of four parts and two
    squares; two arrays are read ahead.
    """
    T, heads, W = shape
    coming, place, size = ahead
    next_coming, next_place, next_size = other
    arrays = own(gradient), own(qkv), out, room, own(coming), own(next_coming)
    places = begin, start, to, (place, size // (3 * heads)), (next_place, next_size // heads)
    call_address(address, (arrays, places, (T, W, scale, adds)), 0, heads)


def _tuple(*parts):
    return types.Tuple(list(parts))


_integer, _array = types.int64, types.Array(types.float32, 1, "C")
_places = _tuple(*[_integer] * 4)
_unit = _tuple(_tuple(*[_array] * 4), _places, _tuple(_integer, _integer, types.float32))
ATTEND = AddressedKernel(_attend, types.void(_unit, _integer, _integer))
_pair = _tuple(_integer, _integer)
_places = _tuple(_integer, _integer, _integer, _pair, _pair)
_unit = _tuple(
    _tuple(*[_array] * 6), _places, _tuple(_integer, _integer, types.float32, types.boolean)
)
ATTEND_GRADIENT = AddressedKernel(_attend_gradient, types.void(_unit, _integer, _integer))
