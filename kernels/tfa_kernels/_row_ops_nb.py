# mypy: ignore-errors
"""Layer norm and GELU of rows that a core's caches hold, with their gradients.

Called from inside other kernels. Flat float32 arrays; rows of whole panels of columns. A result
goes where the next product reads it best: its rows and its panels are ``steps`` apart.
"""

import math

import numpy as np

from tfa_kernels._jit import inline_kernel
from tfa_kernels._products_nb import PANEL
from tfa_kernels._vectors_nb import (
    LOG2_E,
    WIDTH,
    exp2,
    largest,
    load,
    multiply_add,
    spread,
    store,
    total,
    where_positive,
)

_ONE = np.float32(1.0)


@inline_kernel
def norm_rows(x, at, rows, d, norm, out, steps, kept):
    """(x - mean) / sqrt(variance + eps) * weight + bias of each row (Ba et al. 2016, eq. 4).

    Keeps each row's mean, and 1 / sqrt(variance + eps) as its scale, in the two rows of ``kept``.
    """
    weight, bias, eps = norm
    for row in range(rows):
        first = at + row * d
        added = spread(np.float32(0.0))
        for c in range(0, d, WIDTH):
            added = added + load(x, first + c)
        mean = np.float32(total(added) / d)
        middle, squares = spread(mean), spread(np.float32(0.0))
        for c in range(0, d, WIDTH):
            apart = load(x, first + c) - middle
            squares = multiply_add(apart, apart, squares)
        scale = np.float32(1.0 / math.sqrt(total(squares) / d + eps))
        kept[0, row], kept[1, row] = mean, scale
        factor = spread(scale)
        to = row * steps[0]
        for c in range(0, d, PANEL):
            left = (load(x, first + c) - middle) * factor
            right = (load(x, first + c + WIDTH) - middle) * factor
            store(out, to, multiply_add(left, load(weight, c), load(bias, c)))
            to_right, at_right = to + WIDTH, c + WIDTH
            store(out, to_right, multiply_add(right, load(weight, at_right), load(bias, at_right)))
            to += steps[1]


@inline_kernel
def norm_gradient(gradient, x, passed, at, rows, d, weight, kept, out, sums):
    """out = passed + the gradient of x, from that of what `norm_rows` gives, [rows, d] from 0.

    x, ``passed`` and ``out`` begin at ``at``. The gradients of weight and bias are added to
    ``sums``, two arrays of d.
    """
    weights, biases = sums
    for row in range(rows):
        first, middle, factor = at + row * d, spread(kept[0, row]), spread(kept[1, row])
        # Its mean, and its mean with the normed row as weights, are what norm took away.
        plain, along = spread(np.float32(0.0)), spread(np.float32(0.0))
        for c in range(0, d, WIDTH):
            change = load(gradient, row * d + c)
            normed = (load(x, first + c) - middle) * factor
            store(weights, c, multiply_add(change, normed, load(weights, c)))
            store(biases, c, load(biases, c) + change)
            change = change * load(weight, c)
            plain = plain + change
            along = multiply_add(change, normed, along)
        mean = spread(np.float32(total(plain) / d))
        slope = spread(np.float32(total(along) / d))
        for c in range(0, d, WIDTH):
            change = load(gradient, row * d + c) * load(weight, c)
            normed = (load(x, first + c) - middle) * factor
            change = change - mean - normed * slope
            store(out, first + c, multiply_add(change, factor, load(passed, first + c)))


def _scaled_complement(points):
    """exp(z^2) erfc(z) at t = 1 / (1 + z _BEND)."""
    z = (1 / points - 1) / _BEND
    return np.array([math.exp(v * v) * math.erfc(v) for v in z])


# Smooth in t, which goes from 1 at 0 to where float32 knows erfc no more: by interpolation in
# Chebyshev's points, 6e-8 of the value at most.
_BEND, _DEGREE = 0.3, 9
_LEAST = 1 / (1 + 9.4 * _BEND)
_ANGLES = np.pi * (np.arange(_DEGREE + 1) + 0.5) / (_DEGREE + 1)
_POINTS = (1 + _LEAST) / 2 + (1 - _LEAST) / 2 * np.cos(_ANGLES)
_C = tuple(np.float32(c) for c in np.polyfit(_POINTS, _scaled_complement(_POINTS), _DEGREE) / 2)
_T = np.float32(_BEND / math.sqrt(2))
_EXPONENT = np.float32(-LOG2_E / 2)
_DENSITY = np.float32(1 / math.sqrt(2 * math.pi))
# Products of less would be numbers below float32's normal ones, which processors are slow with.
_LEAST_POWER = np.float32(-100.0)


@inline_kernel
def _normal(x):
    """The normal distribution's share below x, and exp(-x^2 / 2)."""
    one = spread(_ONE)
    power = exp2(largest(x * x * spread(_EXPONENT), spread(_LEAST_POWER)))
    t = one / multiply_add(largest(x, spread(np.float32(0.0)) - x), spread(_T), one)
    tail = multiply_add(spread(_C[0]), t, spread(_C[1]))
    tail = multiply_add(tail, t, spread(_C[2]))
    tail = multiply_add(tail, t, spread(_C[3]))
    tail = multiply_add(tail, t, spread(_C[4]))
    tail = multiply_add(tail, t, spread(_C[5]))
    tail = multiply_add(tail, t, spread(_C[6]))
    tail = multiply_add(tail, t, spread(_C[7]))
    tail = multiply_add(tail, t, spread(_C[8]))
    tail = multiply_add(tail, t, spread(_C[9])) * power
    return where_positive(x, one - tail, tail), power


@inline_kernel
def gelu(x, at, size, out):
    """x times the normal distribution's share below it (Hendrycks and Gimpel 2016)."""
    for c in range(0, size, WIDTH):
        value = load(x, at + c)
        share, _ = _normal(value)
        store(out, c, value * share)


@inline_kernel
def gelu_gradient(changes, x, at, rows, columns, out, steps):
    """out = `gelu` of x, and ``changes`` [rows, columns], the gradient of it, to that of x."""
    for row in range(rows):
        to, first = row * steps[0], row * columns
        for c in range(0, columns, PANEL):
            for v in range(0, PANEL, WIDTH):
                value = load(x, at + first + c + v)
                share, power = _normal(value)
                store(out, to + v, value * share)
                slope = multiply_add(value * spread(_DENSITY), power, share)
                store(changes, first + c + v, load(changes, first + c + v) * slope)
            to += steps[1]


@inline_kernel
def add_rows(x, at, rows, columns, sums):
    """The sums of the columns of x, added to ``sums``."""
    for c in range(0, columns, WIDTH):
        added = load(sums, c)
        for row in range(rows):
            added = added + load(x, at + row * columns + c)
        store(sums, c, added)
