# mypy: ignore-errors
"""Products of matrices that a core's caches hold, called from inside other kernels.

An operand is a tuple: a flat array, where the matrix begins in it, and the steps to the next row
and the next column.
"""

from numba import types

from tfa_kernels._addressed import AddressedKernel, call_address
from tfa_kernels._jit import inline_kernel, serial_kernel
from tfa_kernels._lanes_nb import BLOCK
from tfa_kernels._memory_nb import LINE, prefetch
from tfa_kernels._tiles_nb import NOTHING, ROWS, ROWS_AND_BIAS, tile
from tfa_kernels._vectors_nb import WIDTH, load, own, store, turn

PANEL = 2 * WIDTH
_LINE = LINE // 4
# Two units with a latency of four want eight sums under way at least; AVX-512 has registers for
# twice as many.
_ROWS, _TALL = (8, 16) if WIDTH == 16 else (4, 8)


def _in_rows(height, vectors):
    """A callee: tiles of that height below each other, from row m on; the first row left over."""
    made = tile(height, vectors)

    @inline_kernel
    def tiles(a, b, depth, begin, out, m, rows, ahead):
        left, at, row, step = a
        (given, start, next_start), bias, kind = begin
        sums, to, out_row = out
        coming, place, end, share = ahead
        while m + height <= rows:
            made((left, at + m * row, row, step), b, depth,
                 ((given, start + m * next_start, next_start), bias, kind),
                 (sums, to + m * out_row, out_row))  # fmt: skip
            m += height
            last = min(place + share, end)
            while place < last:
                prefetch(coming, place)
                place += _LINE
        return m, place

    return tiles


_panels, _panels_of_one = _in_rows(_ROWS, 2), _in_rows(1, 2)
_vectors, _vectors_of_one = _in_rows(_TALL, 1), _in_rows(1, 1)


@inline_kernel
def product(a, b, depth, begin, out, rows, columns, ahead):
    """out[m, n] = begin[m, n] + sum over k < depth of a[m, k] b[k, n].

    Columns of b and out lie side by side inside each panel of ``PANEL``; ``b`` has for its last
    step that from one panel to the next. Columns are whole vectors. In panels of its own,
    [columns / PANEL, depth, PANEL], b is read as it lies; with rows some powers of two apart, lines
    of a first-level cache would displace each other. ``begin`` is what a function below gives.

    Meanwhile ``ahead``, of an array from somewhere on so many values, is read into the second-level
    cache, an equal share beside each tile: what is needed next is on its way while units compute.
    """
    right, b_at, b_row, b_panel = b
    (given, start, next_start), (bias, bias_at), kind = begin
    sums, to, out_row = out
    coming, place, size = ahead
    end, tiles = place + size, max(1, rows // _ROWS * columns // PANEL)
    share = (size // _LINE + tiles - 1) // tiles * _LINE
    for n in range(0, columns, PANEL):
        panel = right, b_at + n // PANEL * b_panel, b_row
        first = (given, start + n, next_start), (bias, bias_at + n), kind
        target, rest = (sums, to + n, out_row), (coming, place, end, share)
        if n + PANEL <= columns:
            done, place = _panels(a, panel, depth, first, target, 0, rows, rest)
            _panels_of_one(a, panel, depth, first, target, done, rows, (coming, end, end, share))
        else:
            done, place = _vectors(a, panel, depth, first, target, 0, rows, rest)
            _vectors_of_one(a, panel, depth, first, target, done, rows, (coming, end, end, share))


@inline_kernel
def nothing(array):
    """For `product`: sums begin with 0; any array will do."""
    return (array, 0, 0), (array, 0), NOTHING


@inline_kernel
def nowhere(array):
    """For `product`: nothing is read ahead; any array will do."""
    return array, 0, 0


@inline_kernel
def rows_alone(array, at, step):
    """For `product`: sums begin with rows ``step`` apart, or with one row where that is 0."""
    return (array, at, step), (array, 0), ROWS


@inline_kernel
def rows_and_bias(array, at, step, bias):
    """For `product`: sums begin with rows ``step`` apart, and a bias for all of them."""
    return (array, at, step), (bias, 0), ROWS_AND_BIAS


@serial_kernel
def pack(matrix, depth, columns, out):
    """out [columns / PANEL, depth, PANEL], flat: panels of a matrix [depth, columns]."""
    to = 0
    for n in range(0, columns, PANEL):
        for at in range(n, depth * columns, columns):
            store(out, to, load(matrix, at))
            store(out, to + WIDTH, load(matrix, at + WIDTH))
            to += PANEL


@serial_kernel
def pack_turned(matrix, depth, columns, out):
    """What `pack` does, of a matrix [columns, depth]; depth is a multiple of `BLOCK`."""
    for n in range(0, columns, PANEL):
        for c in range(0, PANEL, BLOCK):
            for k in range(0, depth, BLOCK):
                to = n * depth + k * PANEL + c
                turn(matrix, (n + c) * depth + k, depth, out, to, PANEL)


@inline_kernel
def product_at(address, a, b, depth, begin, out, rows, columns, ahead):
    """`product` by its address, that of `PRODUCT`: a kernel of many would contain each one's code.

    What it reads may be arrays that must not be written to.
    """
    left, at, row, step = a
    right, b_at, b_row, b_panel = b
    (given, start, next_start), (bias, bias_at), kind = begin
    coming, place, size = ahead
    operands = (
        (own(left), at, row, step),
        (own(right), b_at, b_row, b_panel),
        ((own(given), start, next_start), (own(bias), bias_at), kind),
        out,
        depth,
        columns,
        (own(coming), place, size),
    )
    call_address(address, operands, 0, rows)


def _product(operands, _, rows):
    a, b, begin, out, depth, columns, ahead = operands
    product(a, b, depth, begin, out, rows, columns, ahead)


def _tuple(*parts):
    return types.Tuple(list(parts))


_integer, _array = types.int64, types.Array(types.float32, 1, "C")
_place = _tuple(_array, _integer, _integer)
_operand = _tuple(_array, _integer, _integer, _integer)
_begin = _tuple(_place, _tuple(_array, _integer), _integer)
_operands = _tuple(_operand, _operand, _begin, _place, _integer, _integer, _place)
PRODUCT = AddressedKernel(_product, types.void(_operands, _integer, _integer))
