# mypy: ignore-errors
"""A pre-norm encoder layer before and after its attention, some rows at a time.

A block of rows goes through all of it while it is in a core's caches, so that memory is read and
written for what the next kernel or the gradient needs, and for nothing in between. A chunk of rows
has gradients of the weights of its own; how rows are cut does not depend on the threads, and
neither do the bits.
"""

import numpy as np
from numba import prange

from tfa_kernels._jit import parallel_kernel
from tfa_kernels._products_nb import PANEL, product
from tfa_kernels._row_ops_nb import (
    add_bias,
    add_rows,
    gelu,
    gelu_gradient,
    norm,
    norm_gradient,
)
from tfa_kernels._vectors_nb import WIDTH, load, store

# Rows of a block: their hidden values and the weights are in a second-level cache together.
BLOCK = 48


@parallel_kernel
def before_attention(x, rows, d, columns, norm_weight, norm_bias, eps, panels, bias, chunk, out):
    """out [rows, columns] = norm(x [rows, d]) times the packed weight, plus its bias."""
    for number in prange((rows + chunk - 1) // chunk):
        normed = np.empty(BLOCK * d, np.float32)
        means, scales = np.empty((2, BLOCK), np.float32)
        start = np.int64(number) * chunk
        for first in range(start, min(start + chunk, rows), BLOCK):
            count = min(BLOCK, min(start + chunk, rows) - first)
            norm(x, first * d, count, d, norm_weight, norm_bias, eps, normed, (d, PANEL),
                 means, scales)  # fmt: skip
            at = first * columns
            for row in range(count):
                for c in range(0, columns, WIDTH):
                    store(out, at + row * columns + c, load(bias, c))
            product((normed, 0, d, 1), (panels, 0, PANEL, d * PANEL), d, (out, at, columns),
                    count, columns, True)  # fmt: skip


@parallel_kernel
def before_attention_gradient(
    gradient, x, passed, rows, d, columns, norm_weight, norm_bias, eps, panels, chunk, out, sums
):
    """out = passed + the gradient of x [rows, d], from that of what `before_attention` gives.

    sums [chunks, size]: each chunk's gradients of weight, bias, and the norm's weight and bias.
    """
    for number in prange((rows + chunk - 1) // chunk):
        normed, changes = np.empty((2, BLOCK * d), np.float32)
        means, scales = np.empty((2, BLOCK), np.float32)
        mine = sums[number]
        mine[:] = 0.0
        weight, bias = mine[: columns * d], mine[columns * d : columns * d + columns]
        of_norm = mine[columns * d + columns :]
        start = np.int64(number) * chunk
        for first in range(start, min(start + chunk, rows), BLOCK):
            count = min(BLOCK, min(start + chunk, rows) - first)
            at = first * columns
            norm(x, first * d, count, d, norm_weight, norm_bias, eps, normed,
                 (PANEL, count * PANEL), means, scales)  # fmt: skip
            product((gradient, at, 1, columns), (normed, 0, PANEL, count * PANEL), count,
                    (weight, 0, d), columns, d, True)  # fmt: skip
            add_rows(gradient, at, count, columns, bias)
            product((gradient, at, columns, 1), (panels, 0, PANEL, columns * PANEL), columns,
                    (changes, 0, d), count, d, False)  # fmt: skip
            norm_gradient(changes, x, passed, first * d, count, d, norm_weight, means, scales, out,
                          (of_norm[:d], of_norm[d:]))  # fmt: skip


@parallel_kernel
def after_attention(
    x, mixed, rows, d, hidden, out_panels, out_bias, norm_weight, norm_bias, eps,
    panels_1, bias_1, panels_2, bias_2, chunk, middle, before_gelu, out,
):  # fmt: skip
    """middle = x + mixed W + b; out = middle + gelu(norm(middle) W1 + b1) W2 + b2, [rows, d].

    What goes into gelu is kept in ``before_gelu`` [rows, hidden], or, where that has no room, in a
    block of its own.
    """
    for number in prange((rows + chunk - 1) // chunk):
        normed, means, scales = (
            np.empty(BLOCK * d, np.float32),
            np.empty(BLOCK, np.float32),
            np.empty(BLOCK, np.float32),
        )
        active = np.empty(BLOCK * hidden, np.float32)
        kept = before_gelu.size == rows * hidden
        entering = before_gelu if kept else np.empty(BLOCK * hidden, np.float32)
        start = np.int64(number) * chunk
        for first in range(start, min(start + chunk, rows), BLOCK):
            count = min(BLOCK, min(start + chunk, rows) - first)
            at, enter_at = first * d, first * hidden if kept else 0
            add_bias(x, at, count, d, out_bias, middle)
            product((mixed, at, d, 1), (out_panels, 0, PANEL, d * PANEL), d, (middle, at, d),
                    count, d, True)  # fmt: skip
            norm(middle, at, count, d, norm_weight, norm_bias, eps, normed, (d, PANEL),
                 means, scales)  # fmt: skip
            for row in range(count):
                for c in range(0, hidden, WIDTH):
                    store(entering, enter_at + row * hidden + c, load(bias_1, c))
            product((normed, 0, d, 1), (panels_1, 0, PANEL, d * PANEL), d,
                    (entering, enter_at, hidden), count, hidden, True)  # fmt: skip
            gelu(entering, enter_at, count * hidden, active)
            add_bias(middle, at, count, d, bias_2, out)
            product((active, 0, hidden, 1), (panels_2, 0, PANEL, hidden * PANEL), hidden,
                    (out, at, d), count, d, True)  # fmt: skip


@parallel_kernel
def after_attention_gradient(
    gradient, mixed, middle, before_gelu, rows, d, hidden, out_panels, norm_weight, norm_bias, eps,
    panels_1, panels_2, chunk, out, of_mixed, sums,
):  # fmt: skip
    """The gradients of x (in out) and of mixed, from that of what `after_attention` gives.

    sums [chunks, size]: of each chunk the gradients of W, b, the norm's weight and bias, W1, b1,
    W2 and b2.
    """
    for number in prange((rows + chunk - 1) // chunk):
        normed, changes, mixed_panels = np.empty((3, BLOCK * d), np.float32)
        active, entering = np.empty((2, BLOCK * hidden), np.float32)
        means, scales = np.empty((2, BLOCK), np.float32)
        mine = sums[number]
        mine[:] = 0.0
        weight, bias = mine[: d * d], mine[d * d : d * d + d]
        rest = mine[d * d + d :]
        of_norm = (rest[:d], rest[d : 2 * d])
        rest = rest[2 * d :]
        weight_1, bias_1 = rest[: hidden * d], rest[hidden * d : hidden * d + hidden]
        rest = rest[hidden * d + hidden :]
        weight_2, bias_2 = rest[: d * hidden], rest[d * hidden :]
        start = np.int64(number) * chunk
        for first in range(start, min(start + chunk, rows), BLOCK):
            count = min(BLOCK, min(start + chunk, rows) - first)
            at, panel = first * d, count * PANEL
            product((gradient, at, d, 1), (panels_2, 0, PANEL, d * PANEL), d,
                    (entering, 0, hidden), count, hidden, False)  # fmt: skip
            gelu_gradient(entering, before_gelu, first * hidden, count, hidden, active,
                          (PANEL, panel))  # fmt: skip
            product((gradient, at, 1, d), (active, 0, PANEL, panel), count,
                    (weight_2, 0, hidden), d, hidden, True)  # fmt: skip
            add_rows(gradient, at, count, d, bias_2)
            norm(middle, at, count, d, norm_weight, norm_bias, eps, normed, (PANEL, panel),
                 means, scales)  # fmt: skip
            product((entering, 0, 1, hidden), (normed, 0, PANEL, panel), count,
                    (weight_1, 0, d), hidden, d, True)  # fmt: skip
            add_rows(entering, 0, count, hidden, bias_1)
            product((entering, 0, hidden, 1), (panels_1, 0, PANEL, hidden * PANEL), hidden,
                    (changes, 0, d), count, d, False)  # fmt: skip
            norm_gradient(changes, middle, gradient, at, count, d, norm_weight, means, scales, out,
                          of_norm)  # fmt: skip
            for row in range(count):
                for c in range(0, d, PANEL):
                    for v in range(c, c + PANEL, WIDTH):
                        to = c // PANEL * panel + row * PANEL + v - c
                        store(mixed_panels, to, load(mixed, at + row * d + v))
            product((out, at, 1, d), (mixed_panels, 0, PANEL, panel), count, (weight, 0, d),
                    d, d, True)  # fmt: skip
            add_rows(out, at, count, d, bias)
            product((out, at, d, 1), (out_panels, 0, PANEL, d * PANEL), d, (of_mixed, at, d),
                    count, d, False)  # fmt: skip


@parallel_kernel
def add_chunks(sums, chunks, size, piece, out):
    """out [size]: the sums of the chunks, in their order."""
    for number in prange((size + piece - 1) // piece):
        start = np.int64(number) * piece
        for i in range(start, min(start + piece, size)):
            added = sums[0, i]
            for other in range(1, chunks):
                added += sums[other, i]
            out[i] = added
