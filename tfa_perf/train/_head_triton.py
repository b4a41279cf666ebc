# mypy: ignore-errors
"""The last norm and the linear layer of one column behind it, as Triton kernels."""

import triton
import triton.language as tl

from tfa_perf.train._rows_triton import _normed, _normed_gradient, _tile, _vector


@triton.jit(do_not_specialize=["rows"])
def head(
    x, norm_weight, norm_bias, weight, bias, out, rows, eps,
    d: tl.constexpr, BM: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """Norm and a linear layer of one column [rows]."""
    first = tl.program_id(0) * BM
    at, exists = _tile(first, rows, d, BM, BD)
    h = tl.load(x + first.to(tl.int64) * d + at, mask=exists, other=0.0).to(tl.float32)
    normed = _normed(h, eps, d, BD)[0]
    normed = normed * _vector(norm_weight, 0, d, BD) + _vector(norm_bias, 0, d, BD)
    made = tl.sum(normed * _vector(weight, 0, d, BD), 1) + tl.load(bias)
    row = first + tl.arange(0, BM)
    tl.store(out + row, made, mask=row < rows)


@triton.jit(do_not_specialize=["rows"])
def head_gradient(
    gradient, x, norm_weight, weight, out, sums, rows, eps,
    d: tl.constexpr, BM: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """Gradient of x, and a program's sums over rows: of ``gradient`` times x normed, of itself."""
    first = tl.program_id(0) * BM
    at, exists = _tile(first, rows, d, BM, BD)
    at += first.to(tl.int64) * d
    row = first + tl.arange(0, BM)
    given = tl.load(gradient + row, mask=row < rows, other=0.0)
    h = tl.load(x + at, mask=exists, other=0.0).to(tl.float32)
    normed, scale = _normed(h, eps, d, BD)
    change = given[:, None] * _vector(weight, 0, d, BD)
    change = _normed_gradient(change, normed, scale, _vector(norm_weight, 0, d, BD), d)
    tl.store(out + at, change.to(out.dtype.element_ty), mask=exists)
    sums += tl.program_id(0) * (d + 1)
    column = tl.arange(0, BD)
    tl.store(sums + column, tl.sum(given[:, None] * normed, 0), mask=column < d)
    tl.store(sums + d, tl.sum(given, 0))


@triton.jit
def head_sums(
    sums, programs, norm_weight, norm_bias, weight, out,
    d: tl.constexpr, BM: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """Gradients of the norm's weight and bias and the layer's, from the sums of all programs.

    The layer is given w n + b, n normed: that of its weight is w G + b S with the two sums G and S,
    that of w and b is the weight times G and times S.
    """
    column = tl.arange(0, BD)
    product = tl.zeros((BD,), tl.float32)
    total = 0.0
    for first in range(0, programs, BM):
        program = first + tl.arange(0, BM)
        at = sums + program[:, None] * (d + 1) + column[None, :]
        exists = (program < programs)[:, None] & (column < d)[None, :]
        product += tl.sum(tl.load(at, mask=exists, other=0.0), 0)
        at = sums + program * (d + 1) + d
        total += tl.sum(tl.load(at, mask=program < programs, other=0.0), 0)
    w = tl.load(norm_weight + column, mask=column < d, other=0.0)
    b = tl.load(norm_bias + column, mask=column < d, other=0.0)
    by = tl.load(weight + column, mask=column < d, other=0.0)
    tl.store(out + column, by * product, mask=column < d)
    tl.store(out + d + column, by * total, mask=column < d)
    tl.store(out + 2 * d + column, w * product + b * total, mask=column < d)
    tl.store(out + 3 * d, total)
