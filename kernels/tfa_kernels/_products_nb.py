# mypy: ignore-errors
"""Products of matrices that a core's caches hold, called from inside other kernels.

An operand is a tuple: a flat array, where the matrix begins in it, and the steps to the next row
and the next column. Eight sums of whole vectors stay in registers while a row of each goes by.
"""

import numpy as np
from numba import types

from tfa_kernels._addressed import AddressedKernel, call_address
from tfa_kernels._jit import inline_kernel, serial_kernel
from tfa_kernels._vectors_nb import WIDTH, load, load_spread, multiply_add, spread, store

PANEL = 2 * WIDTH
_ROWS = 4
# With AVX-512 there are registers for as many sums as keep two of its units at work.
_TALL = 8 if WIDTH == 16 else 0


@inline_kernel
def product(a, b, depth, out, rows, columns, add):
    """out[m, n] = sum over k < depth of a[m, k] b[k, n], added to what is there where ``add``.

    Columns of b and out lie side by side inside each panel of ``PANEL``; ``b`` has for its last
    step that from one panel to the next. Columns are whole vectors. In panels of its own,
    [columns / PANEL, depth, PANEL], b is read as it lies; with rows some powers of two apart, lines
    of a first-level cache would displace each other.
    """
    left_array, a_at, a_row, a_step = a
    right_array, b_at, b_row, b_panel = b
    sums, out_at, out_row = out
    zero = spread(np.float32(0.0))
    fours = rows // _ROWS * _ROWS
    for n in range(0, columns, PANEL):
        panel = b_at + n // PANEL * b_panel
        if n + PANEL <= columns:
            for m in range(0, fours, _ROWS):
                to = out_at + m * out_row + n
                s0, s1, s2, s3, t0, t1, t2, t3 = zero, zero, zero, zero, zero, zero, zero, zero
                if add:
                    s0, t0 = load(sums, to), load(sums, to + WIDTH)
                    s1, t1 = load(sums, to + out_row), load(sums, to + out_row + WIDTH)
                    s2, t2 = load(sums, to + 2 * out_row), load(sums, to + 2 * out_row + WIDTH)
                    s3, t3 = load(sums, to + 3 * out_row), load(sums, to + 3 * out_row + WIDTH)
                first = a_at + m * a_row
                for k in range(depth):
                    at, by = first + k * a_step, panel + k * b_row
                    left, right = load(right_array, by), load(right_array, by + WIDTH)
                    x = load_spread(left_array, at)
                    s0, t0 = multiply_add(x, left, s0), multiply_add(x, right, t0)
                    x = load_spread(left_array, at + a_row)
                    s1, t1 = multiply_add(x, left, s1), multiply_add(x, right, t1)
                    x = load_spread(left_array, at + 2 * a_row)
                    s2, t2 = multiply_add(x, left, s2), multiply_add(x, right, t2)
                    x = load_spread(left_array, at + 3 * a_row)
                    s3, t3 = multiply_add(x, left, s3), multiply_add(x, right, t3)
                store(sums, to, s0)
                store(sums, to + WIDTH, t0)
                store(sums, to + out_row, s1)
                store(sums, to + out_row + WIDTH, t1)
                store(sums, to + 2 * out_row, s2)
                store(sums, to + 2 * out_row + WIDTH, t2)
                store(sums, to + 3 * out_row, s3)
                store(sums, to + 3 * out_row + WIDTH, t3)
        else:
            _vector_of_columns(a, (right_array, panel, b_row), depth, (sums, out_at + n, out_row),
                               fours, add)  # fmt: skip
        for m in range(fours, rows):
            for c in range(n, min(n + PANEL, columns), WIDTH):
                to = out_at + m * out_row + c
                s0 = load(sums, to) if add else zero
                for k in range(depth):
                    x = load_spread(left_array, a_at + m * a_row + k * a_step)
                    s0 = multiply_add(x, load(right_array, panel + k * b_row + c - n), s0)
                store(sums, to, s0)


@inline_kernel
def _eight_rows(a, b, depth, out, add):
    """What `product` does for eight rows and a panel, with sixteen sums in registers."""
    left_array, at, a_row, a_step = a
    right_array, by, b_row = b
    sums, to, out_row = out
    zero = spread(np.float32(0.0))
    s0, s1, s2, s3, s4, s5, s6, s7 = zero, zero, zero, zero, zero, zero, zero, zero
    t0, t1, t2, t3, t4, t5, t6, t7 = zero, zero, zero, zero, zero, zero, zero, zero
    if add:
        s0, t0 = load(sums, to), load(sums, to + WIDTH)
        s1, t1 = load(sums, to + out_row), load(sums, to + out_row + WIDTH)
        s2, t2 = load(sums, to + 2 * out_row), load(sums, to + 2 * out_row + WIDTH)
        s3, t3 = load(sums, to + 3 * out_row), load(sums, to + 3 * out_row + WIDTH)
        s4, t4 = load(sums, to + 4 * out_row), load(sums, to + 4 * out_row + WIDTH)
        s5, t5 = load(sums, to + 5 * out_row), load(sums, to + 5 * out_row + WIDTH)
        s6, t6 = load(sums, to + 6 * out_row), load(sums, to + 6 * out_row + WIDTH)
        s7, t7 = load(sums, to + 7 * out_row), load(sums, to + 7 * out_row + WIDTH)
    for _ in range(depth):
        left, right = load(right_array, by), load(right_array, by + WIDTH)
        x = load_spread(left_array, at)
        s0, t0 = multiply_add(x, left, s0), multiply_add(x, right, t0)
        x = load_spread(left_array, at + a_row)
        s1, t1 = multiply_add(x, left, s1), multiply_add(x, right, t1)
        x = load_spread(left_array, at + 2 * a_row)
        s2, t2 = multiply_add(x, left, s2), multiply_add(x, right, t2)
        x = load_spread(left_array, at + 3 * a_row)
        s3, t3 = multiply_add(x, left, s3), multiply_add(x, right, t3)
        x = load_spread(left_array, at + 4 * a_row)
        s4, t4 = multiply_add(x, left, s4), multiply_add(x, right, t4)
        x = load_spread(left_array, at + 5 * a_row)
        s5, t5 = multiply_add(x, left, s5), multiply_add(x, right, t5)
        x = load_spread(left_array, at + 6 * a_row)
        s6, t6 = multiply_add(x, left, s6), multiply_add(x, right, t6)
        x = load_spread(left_array, at + 7 * a_row)
        s7, t7 = multiply_add(x, left, s7), multiply_add(x, right, t7)
        at += a_step
        by += b_row
    store(sums, to, s0)
    store(sums, to + WIDTH, t0)
    store(sums, to + out_row, s1)
    store(sums, to + out_row + WIDTH, t1)
    store(sums, to + 2 * out_row, s2)
    store(sums, to + 2 * out_row + WIDTH, t2)
    store(sums, to + 3 * out_row, s3)
    store(sums, to + 3 * out_row + WIDTH, t3)
    store(sums, to + 4 * out_row, s4)
    store(sums, to + 4 * out_row + WIDTH, t4)
    store(sums, to + 5 * out_row, s5)
    store(sums, to + 5 * out_row + WIDTH, t5)
    store(sums, to + 6 * out_row, s6)
    store(sums, to + 6 * out_row + WIDTH, t6)
    store(sums, to + 7 * out_row, s7)
    store(sums, to + 7 * out_row + WIDTH, t7)


@inline_kernel
def _vector_of_columns(a, b, depth, out, rows, add):
    """What `product` does for the last vector of columns; rows are whole fours."""
    left_array, a_at, a_row, a_step = a
    right_array, b_at, b_row = b
    sums, out_at, out_row = out
    for m in range(0, rows, _ROWS):
        to = out_at + m * out_row
        zero = spread(np.float32(0.0))
        s0, s1, s2, s3 = zero, zero, zero, zero
        if add:
            s0, s1 = load(sums, to), load(sums, to + out_row)
            s2, s3 = load(sums, to + 2 * out_row), load(sums, to + 3 * out_row)
        for k in range(depth):
            at, left = a_at + m * a_row + k * a_step, load(right_array, b_at + k * b_row)
            s0 = multiply_add(load_spread(left_array, at), left, s0)
            s1 = multiply_add(load_spread(left_array, at + a_row), left, s1)
            s2 = multiply_add(load_spread(left_array, at + 2 * a_row), left, s2)
            s3 = multiply_add(load_spread(left_array, at + 3 * a_row), left, s3)
        store(sums, to, s0)
        store(sums, to + out_row, s1)
        store(sums, to + 2 * out_row, s2)
        store(sums, to + 3 * out_row, s3)


@serial_kernel
def pack(matrix, columns, depth, column_step, depth_step, out):
    """out [columns / PANEL, depth, PANEL], flat: panels of a matrix [depth, columns]."""
    to = 0
    for n in range(0, columns, PANEL):
        for k in range(depth):
            at = n * column_step + k * depth_step
            for c in range(PANEL):
                out[to + c] = matrix[at + c * column_step]
            to += PANEL


@inline_kernel
def product_at(address, a, b, depth, out, rows, columns, add):
    """`product` by its address: `OF_GIVEN` where a's array is not to be written to, else `OF_OWN`.

    A kernel of many large products would contain the code of each.
    """
    call_address(address, (a, b, out, depth, columns, add), 0, rows)


def _product(operands, _, rows):
    a, b, out, depth, columns, add = operands
    left_array, a_at, a_row, a_step = a
    right_array, b_at, b_row, b_panel = b
    sums, out_at, out_row = out
    done = 0
    if _TALL and columns % PANEL == 0:
        done = rows // _TALL * _TALL
        for n in range(0, columns, PANEL):
            panel = right_array, b_at + n // PANEL * b_panel, b_row
            for m in range(0, done, _TALL):
                _eight_rows((left_array, a_at + m * a_row, a_row, a_step), panel, depth,
                            (sums, out_at + m * out_row + n, out_row), add)  # fmt: skip
    rest = left_array, a_at + done * a_row, a_row, a_step
    product(rest, b, depth, (sums, out_at + done * out_row, out_row), rows - done, columns, add)


def _addressed(array):
    integer, own = types.int64, types.Array(types.float32, 1, "C")
    operands = types.Tuple(
        [
            types.Tuple([array, integer, integer, integer]),
            types.Tuple([own, integer, integer, integer]),
            types.Tuple([own, integer, integer]),
            integer,
            integer,
            types.boolean,
        ]
    )
    return AddressedKernel(_product, types.void(operands, integer, integer))


OF_OWN = _addressed(types.Array(types.float32, 1, "C"))
OF_GIVEN = _addressed(types.Array(types.float32, 1, "C", readonly=True))
