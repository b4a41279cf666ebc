# mypy: ignore-errors
"""A pre-norm encoder layer before and after its attention, some rows at a time.

A block of rows goes through all of it while it is in a core's caches, so that memory is read and
written for what the next kernel or the gradient needs, and for nothing in between. A chunk of rows
has gradients of the weights of its own; how rows are cut does not depend on the threads, and
neither do the bits.

Arrays are flat. ``sizes`` are rows, d, the other number of columns (of the projection, or of the
feed-forward's hidden values) and rows of a chunk; a ``norm`` is weight, bias and what is added to
the variance; ``at`` is the address of products, whose last operand is what is read ahead.
"""

import numpy as np
from numba import prange

from tfa_kernels._jit import inline_kernel, parallel_kernel
from tfa_kernels._memory_nb import scratch
from tfa_kernels._products_nb import PANEL, nothing, nowhere, product_at, rows_alone, rows_and_bias
from tfa_kernels._row_ops_nb import (
    add_rows,
    gelu,
    gelu_gradient,
    norm_gradient,
    norm_rows,
)
from tfa_kernels._vectors_nb import WIDTH, load, store

# Rows of a block: their hidden values and the weights are in a second-level cache together.
BLOCK = 48


@parallel_kernel
def before_attention(x, sizes, norm, panels, bias, at, out):
    """out [rows, columns] = norm(x [rows, d]) times the packed weight, plus its bias."""
    rows, d, columns, chunk = sizes
    for number in prange((rows + chunk - 1) // chunk):
        normed, kept = scratch(BLOCK * d), np.empty((2, BLOCK), np.float32)
        start = np.int64(number) * chunk
        for first in range(start, min(start + chunk, rows), BLOCK):
            count, to = min(BLOCK, min(start + chunk, rows) - first), first * columns
            norm_rows(x, first * d, count, d, norm, normed, (d, PANEL), kept)
            times(at, (normed, 0, d, 1), panels, d, rows_alone(bias, 0, 0), (out, to, columns),
                  count, columns, (x, (first + count) * d, BLOCK * d))  # fmt: skip


@parallel_kernel
def before_attention_gradient(gradient, x, passed, sizes, norm, panels, at, out, sums):
    """out = passed + the gradient of x [rows, d], from that of what `before_attention` gives.

    sums [chunks, size]: each chunk's gradients of weight, bias, and the norm's weight and bias.
    """
    rows, d, columns, chunk = sizes
    for number in prange((rows + chunk - 1) // chunk):
        normed, changes = scratch(BLOCK * d), scratch(BLOCK * d)
        kept = np.empty((2, BLOCK), np.float32)
        mine = sums[number]
        mine[:] = 0.0
        start = np.int64(number) * chunk
        for first in range(start, min(start + chunk, rows), BLOCK):
            count, place = min(BLOCK, min(start + chunk, rows) - first), first * columns
            add_before(at, (gradient, place), (x, passed, out), first * d, (count, d, columns),
                       norm, panels, (normed, changes, kept), mine,
                       (gradient, place + count * columns, BLOCK * columns))  # fmt: skip


@parallel_kernel
def after_attention(
    x, mixed, sizes, panels, bias, norm, panels_1, bias_1, panels_2, bias_2, at,
    middle, before_gelu, out,
):  # fmt: skip
    """middle = x + mixed W + b; out = middle + gelu(norm(middle) W1 + b1) W2 + b2, [rows, d].

    What goes into gelu is kept in ``before_gelu`` [rows, hidden], or, where that has no room, in a
    block of its own.
    """
    rows, d, hidden, chunk = sizes
    keeps = before_gelu.size == rows * hidden
    for number in prange((rows + chunk - 1) // chunk):
        normed, kept = scratch(BLOCK * d), np.empty((2, BLOCK), np.float32)
        active = scratch(BLOCK * hidden)
        entering = before_gelu if keeps else scratch(BLOCK * hidden)
        start = np.int64(number) * chunk
        for first in range(start, min(start + chunk, rows), BLOCK):
            count, to = min(BLOCK, min(start + chunk, rows) - first), first * d
            enter = first * hidden if keeps else 0
            times(at, (mixed, to, d, 1), panels, d, rows_and_bias(x, to, d, bias),
                  (middle, to, d), count, d, nowhere(x))  # fmt: skip
            norm_rows(middle, to, count, d, norm, normed, (d, PANEL), kept)
            times(at, (normed, 0, d, 1), panels_1, d, rows_alone(bias_1, 0, 0),
                  (entering, enter, hidden), count, hidden,
                  (x, to + count * d, BLOCK * d))  # fmt: skip
            gelu(entering, enter, count * hidden, active)
            times(at, (active, 0, hidden, 1), panels_2, hidden,
                  rows_and_bias(middle, to, d, bias_2), (out, to, d), count, d,
                  (mixed, to + count * d, BLOCK * d))  # fmt: skip


@parallel_kernel
def after_attention_gradient(
    gradient, mixed, middle, before_gelu, sizes, panels, norm, panels_1, panels_2, at,
    out, of_mixed, sums,
):  # fmt: skip
    """The gradients of x (in out) and of mixed, from that of what `after_attention` gives.

    sums [chunks, size]: each chunk's gradients of W, b, the norm's weight and bias, W1, b1, W2, b2.
    """
    rows, d, hidden, chunk = sizes
    for number in prange((rows + chunk - 1) // chunk):
        normed, changes, mixed_panels = scratch(BLOCK * d), scratch(BLOCK * d), scratch(BLOCK * d)
        active, entering = scratch(BLOCK * hidden), scratch(BLOCK * hidden)
        kept = np.empty((2, BLOCK), np.float32)
        mine = sums[number]
        mine[:] = 0.0
        weight, bias, rest = mine[: d * d], mine[d * d : d * (d + 1)], mine[d * (d + 1) :]
        of_norm, rest = (rest[:d], rest[d : 2 * d]), rest[2 * d :]
        weight_1, bias_1 = rest[: hidden * d], rest[hidden * d : hidden * (d + 1)]
        rest = rest[hidden * (d + 1) :]
        weight_2, bias_2 = rest[: d * hidden], rest[d * hidden :]
        start = np.int64(number) * chunk
        for first in range(start, min(start + chunk, rows), BLOCK):
            count, to = min(BLOCK, min(start + chunk, rows) - first), first * d
            steps = (PANEL, count * PANEL)
            times(at, (gradient, to, d, 1), panels_2, d, nothing(entering),
                  (entering, 0, hidden), count, hidden,
                  (before_gelu, first * hidden, count * hidden))  # fmt: skip
            gelu_gradient(entering, before_gelu, first * hidden, count, hidden, active, steps)
            add_products(at, (gradient, to, 1, d), active, count, weight_2, d, hidden,
                         (middle, to, count * d))  # fmt: skip
            add_rows(gradient, to, count, d, bias_2)
            norm_rows(middle, to, count, d, norm, normed, steps, kept)
            add_products(at, (entering, 0, 1, hidden), normed, count, weight_1, hidden, d,
                         (mixed, to, count * d))  # fmt: skip
            add_rows(entering, 0, count, hidden, bias_1)
            times(at, (entering, 0, hidden, 1), panels_1, hidden, nothing(changes),
                  (changes, 0, d), count, d, (out, to, count * d))  # fmt: skip
            norm_gradient(changes, middle, gradient, to, count, d, norm[0], kept, out, of_norm)
            _to_panels(mixed, to, count, d, mixed_panels)
            add_products(at, (out, to, 1, d), mixed_panels, count, weight, d, d,
                         (of_mixed, to, count * d))  # fmt: skip
            add_rows(out, to, count, d, bias)
            times(at, (out, to, d, 1), panels, d, nothing(of_mixed), (of_mixed, to, d), count, d,
                  (gradient, to + count * d, BLOCK * d))  # fmt: skip


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


@inline_kernel
def add_before(at, given, arrays, to, shape, norm, panels, spaces, sums, ahead):
    """What `before_attention_gradient` says, of rows at ``to``, added to the chunk's ``sums``.

    ``given`` is the gradient of their projection, and where it begins; ``arrays`` are x, passed and
    out, ``shape`` rows, d and columns of the projection. ``spaces`` hold the normed rows, their
    gradient, and what the norm keeps of each.
    """
    gradient, place = given
    x, passed, out = arrays
    rows, d, columns = shape
    normed, changes, kept = spaces
    weight, bias = sums[: columns * d], sums[columns * d : columns * (d + 1)]
    of_norm = sums[columns * (d + 1) :]
    norm_rows(x, to, rows, d, norm, normed, (PANEL, rows * PANEL), kept)
    # By rows first, from memory in its order; then by columns, from the caches.
    times(at, (gradient, place, columns, 1), panels, columns, nothing(changes), (changes, 0, d),
          rows, d, (passed, to, rows * d))  # fmt: skip
    add_products(at, (gradient, place, 1, columns), normed, rows, weight, columns, d, ahead)
    add_rows(gradient, place, rows, columns, bias)
    norm_gradient(changes, x, passed, to, rows, d, norm[0], kept, out, (of_norm[:d], of_norm[d:]))


@inline_kernel
def times(address, a, panels, depth, begin, out, rows, columns, ahead):
    """Rows times a matrix [depth, columns] in panels."""
    b = panels, 0, PANEL, depth * PANEL
    product_at(address, a, b, depth, begin, out, rows, columns, ahead)


@inline_kernel
def add_products(address, a, panels, depth, sums, rows, columns, ahead):
    """sums [rows, columns] += a [rows, depth] times ``depth`` rows in panels."""
    b = panels, 0, PANEL, depth * PANEL
    begin, out = rows_alone(sums, 0, columns), (sums, 0, columns)
    product_at(address, a, b, depth, begin, out, rows, columns, ahead)


@inline_kernel
def _to_panels(x, at, rows, columns, out):
    """out [columns / PANEL, rows, PANEL] of rows that lie at ``at``."""
    for row in range(rows):
        for c in range(0, columns, WIDTH):
            to = c // PANEL * rows * PANEL + row * PANEL + c % PANEL
            store(out, to, load(x, at + row * columns + c))
