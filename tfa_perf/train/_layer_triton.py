# mypy: ignore-errors
"""A layer's kernels, launched: shapes, blocks of rows and what one leaves for the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import triton
from torch import Tensor

from tfa_perf.data.device_windows import spaced_columns
from tfa_perf.train import _half_triton as half_kernels
from tfa_perf.train import _head_triton as head_kernels
from tfa_perf.train import _rows_triton as kernels
from tfa_perf.train._linear_gradient_triton import (
    Product,
    Sums,
    in_turn,
    multiprocessors,
    partial_sums,
)

_OPTIONS = {"num_warps": 4, "num_stages": 2}
# Of kernels that keep weights in shared memory: two fit a multiprocessor of an H200.
_PROGRAMS = 2
_KEPT = {"num_warps": 4, "num_stages": 1}


class Layer(NamedTuple):
    """Parameters of a layer, in the order of the flat gradient; weights of products in half."""

    qkv: Tensor
    qkv_bias: Tensor
    norm1: Tensor
    norm1_bias: Tensor
    output: Tensor
    output_bias: Tensor
    first: Tensor
    first_bias: Tensor
    second: Tensor
    second_bias: Tensor
    norm2: Tensor
    norm2_bias: Tensor


class Head(NamedTuple):
    """The last norm and the layer of one column behind it, float32."""

    norm: Tensor
    norm_bias: Tensor
    weight: Tensor
    bias: Tensor


def projected(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    weights: Sequence[Tensor],
    halves: Tensor,
    spaced: bool,
) -> tuple[Tensor, Tensor]:
    """Rows of x in half precision, with more columns up to a power of 2, and their projections.

    x is that already where it is ``spaced``. ``weights``, of what comes after, are rounded into
    ``halves``, one behind the other, while the projections are made.
    """
    windows, T, _ = x.shape
    rows, (d, F) = windows * T, weight.shape
    half = x.view(rows, -1) if spaced else halves.new_empty((rows, spaced_columns(F)))
    out = halves.new_empty((rows, d))
    block = _block(rows)
    first, *rest = half_kernels.roundings(weights)
    kernels.project[(triton.cdiv(rows, block) + first.blocks,)](
        x, weight, bias, half, out, rows, x.stride(0), x.stride(1), T, F, d,
        first.tensors, first.shapes, halves, SPACED=spaced,
        BM=block, BF=spaced_columns(F), BD=_wide(d), VALUES=half_kernels.VALUES, **_OPTIONS,
    )  # fmt: skip
    for some in rest:
        half_kernels.in_half[(some.blocks,)](some.tensors, some.shapes, halves, half_kernels.VALUES)
    return half, out


def before(h: Tensor, layer: Layer, query: Tensor | None, out: Tensor, eps: float) -> None:
    """Into ``out`` [b, T, 3 d]; with ``query`` [b, d], of last rows, keys and values alone."""
    rows, d = h.shape
    block = _block(rows)
    kernels.before[_programs(rows, block, h.device)](
        h, layer.norm1, layer.norm1_bias, layer.qkv, layer.qkv_bias,
        out if query is None else query, out, rows, eps, d,
        BM=block, BD=_wide(d), LAST=0 if query is None else out.shape[1], **_KEPT,
    )  # fmt: skip


def after(h: Tensor, mixed: Tensor, layer: Layer, every: int, eps: float) -> tuple[Tensor, Tensor]:
    """What goes into the second norm, and the layer's result, both [rows of mixed, d]."""
    d, hidden = h.shape[1], len(layer.first)
    rows = mixed.numel() // d
    middle, out = (h.new_empty((rows, d)) for _ in range(2))
    block = _block(rows)
    kernels.after[(triton.cdiv(rows, block),)](
        h, mixed, layer.output, layer.output_bias, layer.norm2, layer.norm2_bias,
        layer.first, layer.first_bias, layer.second, layer.second_bias, middle, out,
        rows, eps, d, hidden, EVERY=every, BM=block, BD=_wide(d), BH=_part(hidden), **_OPTIONS,
    )  # fmt: skip
    return middle, out


def logits(h: Tensor, head: Head, eps: float) -> Tensor:
    """[b, 1], float32."""
    rows, d = h.shape
    out = head.bias.new_empty((rows, 1))
    block = _block(rows)
    head_kernels.head[(triton.cdiv(rows, block),)](
        h, *head, out, rows, eps, d, BM=block, BD=_wide(d)
    )
    return out


def head_gradient(gradient: Tensor, h: Tensor, head: Head, place: Tensor, eps: float) -> Tensor:
    """Gradient of h from that of the logits; those of the head's parameters go to ``place``."""
    rows, d = h.shape
    out = torch.empty_like(h)
    block = _block(rows)
    programs = triton.cdiv(rows, block)
    sums = place.new_empty((programs, d + 1))
    head_kernels.head_gradient[(programs,)](
        gradient, h, head.norm, head.weight, out, sums, rows, eps, d, BM=block, BD=_wide(d)
    )
    head_kernels.head_sums[(1,)](
        sums, programs, head.norm, head.norm_bias, head.weight, place, d, BM=64, BD=_wide(d)
    )
    return out


def after_gradient(
    gradient: Tensor, mixed: Tensor, middle: Tensor, layer: Layer, place: int, eps: float
) -> tuple[Tensor, Tensor, Sums]:
    """Gradients of what `after` was given, h and ``mixed``, and sums for those of parameters.

    The parameters' stand at ``place`` of the flat gradient. Of the norm's, `norm_gradients` makes
    what they are, and finishes that of the layer behind it.
    """
    rows, d = gradient.shape
    hidden = len(layer.first)
    out, of_mixed, normed = (torch.empty_like(gradient) for _ in range(3))
    inner, gelu = (gradient.new_empty((rows, hidden)) for _ in range(2))
    block = _block(rows)
    kernels.after_gradient[(triton.cdiv(rows, block),)](
        gradient, middle, layer.output, layer.norm2, layer.norm2_bias,
        layer.first, layer.first_bias, layer.second,
        out, of_mixed, normed, inner, gelu, rows, eps, d, hidden,
        BM=block, BD=_wide(d), BH=_part(hidden), **_OPTIONS,
    )  # fmt: skip
    pairs = (out, mixed.view(rows, d)), (inner, normed), (gradient, gelu)
    return out, of_mixed, partial_sums(in_turn(pairs), place)


def before_gradient(
    query: Tensor | None,
    gradient: Tensor,
    passed: Tensor,
    h: Tensor,
    layer: Layer,
    place: int,
    eps: float,
) -> tuple[Tensor, Sums]:
    """Gradient of h, from those of what `before` gave and of h ``passed`` on by `after`.

    With a ``query``, it and ``passed`` are of last rows alone. Of parameters as `after_gradient`.
    """
    rows, d = h.shape
    T = gradient.shape[1]
    out, normed = (torch.empty_like(h) for _ in range(2))
    block = _block(rows)
    kernels.before_gradient[_programs(rows, block, h.device)](
        gradient if query is None else query, gradient, passed, h,
        layer.norm1, layer.qkv, out, normed, rows, eps, d,
        BM=block, BD=_wide(d), LAST=0 if query is None else T, **_KEPT,
    )  # fmt: skip
    gradient, bias = gradient.flatten(0, 1), 3 * d * d
    if query is None:
        products = [Product(gradient, normed, 3 * d, d, 0, bias)]
    else:
        products = [
            Product(query, normed[T - 1 :: T], d, d, 0, bias),
            Product(gradient, normed, 2 * d, d, d * d, bias + d),
        ]
    return out, partial_sums(products, place)


def _block(rows: int) -> int:
    """Rows of a program: few where there are few, so that all multiprocessors have some."""
    return 64 if rows >= 64 * 64 else 16


def _programs(rows: int, block: int, device: torch.device) -> tuple[int]:
    return (min(triton.cdiv(rows, block), _PROGRAMS * multiprocessors(device)),)


def _wide(columns: int) -> int:
    return max(16, triton.next_power_of_2(columns))


def _part(hidden: int) -> int:
    """Columns of the feed-forward at a time."""
    return next(size for size in (64, 32, 16) if hidden % size == 0)
