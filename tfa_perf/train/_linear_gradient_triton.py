# mypy: ignore-errors
"""Gradients of the weights and biases of linear layers, as Triton kernels: sums over all rows.

The rows are cut into splits, and each split's sums are a row of partial sums; `add_up` adds those
of a whole model, always in the same order. What belongs together is computed by one launch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import torch
import triton
import triton.language as tl

# Rows taken at a time, and rows of a split at least.
_ROWS, _LEAST = 64, 256
# So many, as each is a branch in a kernel.
_TOGETHER = 16
# What a program adds up at a time: columns, and rows of partial sums.
_SUMS, _SUM_ROWS = 256, 32
# Rows and columns of a weight that a program has for its norm.
_NORM_ROWS, _COLUMNS = 128, 16


class Product(NamedTuple):
    """The gradient ``left.T @ right`` of a weight and the sum over ``left`` of its bias.

    Columns M of ``left`` and N of ``right`` count, each row is contiguous. Results go to places
    ``weight`` and ``bias`` of the flat gradient.
    """

    left: torch.Tensor
    right: torch.Tensor
    M: int
    N: int
    weight: int
    bias: int


def in_turn(pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> list[Product]:
    """Products of ``pairs``, their results one behind the other."""
    products, at = [], 0
    for left, right in pairs:
        M, N = left.shape[1], right.shape[1]
        products.append(Product(left, right, M, N, at, at + M * N))
        at += M * (N + 1)
    return products


class Sums(NamedTuple):
    """Partial sums [splits, size] of what stands at ``place`` of the flat gradient."""

    partials: torch.Tensor
    place: int


def partial_sums(products: Sequence[Product], place: int) -> Sums:
    """Of the products' results, whose places count from ``place``."""
    like = products[0].left
    size = sum(p.M * (p.N + 1) for p in products)
    BM, BN = _wide(max(p.M for p in products)), _wide(max(p.N for p in products))
    shapes, blocks = [], 0
    for p in products:
        first = blocks
        blocks += triton.cdiv(p.M, BM) * triton.cdiv(p.N, BN)
        columns = p.left.shape[1], p.right.shape[1]
        strides = p.left.stride(0), p.right.stride(0)
        shapes.append((first, blocks, p.M, p.N, *columns, *strides, p.weight, p.bias))
    rows = max(len(p.left) for p in products)
    splits = max(1, min(triton.cdiv(rows, _LEAST), multiprocessors(like.device) // blocks))
    partials = like.new_empty((splits, size), dtype=torch.float32)
    _partial_sums[(blocks, splits)](
        tuple(t for p in products for t in (p.left, p.right)), tuple(len(p.left) for p in products),
        tuple(shapes), partials, size, splits, BM, BN, _ROWS, num_warps=4, num_stages=4,
    )  # fmt: skip
    return Sums(partials, place)


def add_up(sums: Sequence[Sums], out: torch.Tensor) -> None:
    """Fill those places of the flat gradient ``out``."""
    for first in range(0, len(sums), _TOGETHER):
        partials, places = zip(*sums[first : first + _TOGETHER], strict=True)
        shapes, blocks = [], 0
        for some, place in zip(partials, places, strict=True):
            size, begin = some.shape[1], blocks
            blocks += triton.cdiv(size, _SUMS)
            shapes.append((begin, blocks, size, place))
        _add_up[(blocks,)](
            partials, tuple(map(len, partials)), tuple(shapes), out, _SUMS, _SUM_ROWS
        )


class Norm(NamedTuple):
    """A norm before a linear layer, in the flat gradient.

    ``linear`` is that layer's weight [M, d], ``weight`` and ``bias`` are the norm's. The gradient
    of the layer's weight stands at ``of_linear``, its bias's behind it and then the norm's two.
    """

    linear: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor
    of_linear: int
    of_weight: int


def norm_gradients(norms: Sequence[Norm], gradient: torch.Tensor) -> None:
    """Finish the flat ``gradient``, which has sums G = y^T n at ``of_linear``: n normed, y of the
    layer's result.

    The layer is given w n + b. So the gradient of its weight is w G + b sum(y), that of w the sum
    over M of the layer's weight times G, and that of b the same with sum(y).
    """
    d = norms[0].linear.shape[1]
    for first in range(0, len(norms), _TOGETHER):
        some = norms[first : first + _TOGETHER]
        shapes = tuple((len(n.linear), n.of_linear, n.of_weight) for n in some)
        tensors = tuple(t for n in some for t in (n.linear, n.weight, n.bias))
        _norm_gradients[(triton.cdiv(d, _COLUMNS), len(some))](
            tensors, shapes, gradient, d, _NORM_ROWS, _COLUMNS
        )


@cache
def multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count


def _wide(columns: int) -> int:
    """Columns of a block."""
    return min(128, max(16, triton.next_power_of_2(columns)))


@triton.jit
def _block(
    a, b, rows, split, splits, to, block,
    M: tl.constexpr, N: tl.constexpr, a_columns: tl.constexpr, b_columns: tl.constexpr,
    a_stride: tl.constexpr, b_stride: tl.constexpr,
    weight: tl.constexpr, bias: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """A block of a^T b [M, N], and the sums over the same columns of a [M]."""
    wide: tl.constexpr = (N + BN - 1) // BN
    m = block // wide * BM + tl.arange(0, BM)
    n = block % wide * BN + tl.arange(0, BN)
    # Whole blocks of rows, so that no two splits share one.
    share = tl.cdiv(tl.cdiv(rows, BK), splits) * BK
    begin = split * share
    end = tl.minimum(begin + share, rows)
    product = tl.zeros((BM, BN), tl.float32)
    total = tl.zeros((BM, 16), tl.float32)
    one = tl.full((BK, 16), 1.0, tl.float32).to(a.dtype.element_ty)
    for at in range(begin, end, BK):
        row = at + tl.arange(0, BK)[:, None]
        exists = row < end
        left_at = a + row.to(tl.int64) * a_stride + m[None, :]
        right_at = b + row.to(tl.int64) * b_stride + n[None, :]
        # Columns that rows have are not asked for: loads stay wide.
        left_exists = exists if a_columns % BM == 0 else exists & (m < a_columns)[None, :]
        right_exists = exists if b_columns % BN == 0 else exists & (n < b_columns)[None, :]
        left = tl.trans(tl.load(left_at, mask=left_exists, other=0.0))
        right = tl.load(right_at, mask=right_exists, other=0.0)
        product = tl.dot(left, right.to(left.dtype), product)
        # A product with ones leaves the sum over rows to the tensor cores.
        total = tl.dot(left, one, total)
    tl.store(
        to + weight + m[:, None] * N + n[None, :], product, mask=(m < M)[:, None] & (n < N)[None, :]
    )
    tl.store(to + bias + m, tl.max(total, 1), mask=(m < M) & (block % wide == 0))


@triton.jit
def _partial_sums(
    tensors, rows, shapes: tl.constexpr, partials, size: tl.constexpr, splits,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    block, split = tl.program_id(0), tl.program_id(1)
    to = partials + split * size
    for i in tl.static_range(len(shapes)):
        if (block >= shapes[i][0]) & (block < shapes[i][1]):
            _block(
                tensors[2 * i], tensors[2 * i + 1], rows[i], split, splits, to,
                block - shapes[i][0], shapes[i][2], shapes[i][3], shapes[i][4], shapes[i][5],
                shapes[i][6], shapes[i][7], shapes[i][8], shapes[i][9], BM, BN, BK,
            )  # fmt: skip


@triton.jit
def _add_up(
    partials, splits, shapes: tl.constexpr, out, SUMS: tl.constexpr, ROWS: tl.constexpr
):  # fmt: skip
    block = tl.program_id(0)
    for i in tl.static_range(len(shapes)):
        if (block >= shapes[i][0]) & (block < shapes[i][1]):
            _column_sums(
                partials[i], splits[i], out + shapes[i][3], block - shapes[i][0], shapes[i][2],
                SUMS, ROWS,
            )  # fmt: skip


@triton.jit
def _column_sums(
    partials, splits, out, block, size: tl.constexpr, SUMS: tl.constexpr, ROWS: tl.constexpr
):  # fmt: skip
    column = block * SUMS + tl.arange(0, SUMS)
    total = tl.zeros((SUMS,), tl.float32)
    for at in range(0, splits, ROWS):
        row = at + tl.arange(0, ROWS)[:, None]
        exists = (row < splits) & (column < size)[None, :]
        places = partials + row * size + column[None, :]
        total += tl.sum(tl.load(places, mask=exists, other=0.0), 0)
    tl.store(out + column, total, mask=column < size)


@triton.jit
def _norm_gradients(
    tensors, shapes: tl.constexpr, gradient,
    d: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    for i in tl.static_range(len(shapes)):
        if tl.program_id(1) == i:
            _norm_gradient(
                tensors[3 * i], tensors[3 * i + 1], tensors[3 * i + 2], gradient + shapes[i][1],
                gradient + shapes[i][2], shapes[i][0], d, ROWS, COLUMNS,
            )  # fmt: skip


@triton.jit
def _norm_gradient(
    linear, weight, bias, of_linear, of_weight,
    M: tl.constexpr, d: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    of_own_weight = tl.zeros((COLUMNS,), tl.float32)
    of_own_bias = tl.zeros((COLUMNS,), tl.float32)
    w = tl.load(weight + column, mask=column < d, other=0.0)[None, :]
    b = tl.load(bias + column, mask=column < d, other=0.0)[None, :]
    for first in range(0, M, ROWS):
        row = first + tl.arange(0, ROWS)
        exists = (row < M)[:, None] & (column < d)[None, :]
        at = row[:, None] * d + column[None, :]
        product = tl.load(of_linear + at, mask=exists, other=0.0)
        total = tl.load(of_linear + M * d + row, mask=row < M, other=0.0)[:, None]
        through = tl.load(linear + at, mask=exists, other=0.0).to(tl.float32)
        of_own_weight += tl.sum(through * product, 0)
        of_own_bias += tl.sum(through * total, 0)
        tl.store(of_linear + at, product * w + total * b, mask=exists)
    tl.store(of_weight + column, of_own_weight, mask=column < d)
    tl.store(of_weight + d + column, of_own_bias, mask=column < d)
