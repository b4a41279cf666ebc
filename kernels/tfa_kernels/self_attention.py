"""Norm, projection and attention of a pre-norm encoder layer as one kernel, in float32 on a CPU.

What `before_attention` and `window_attention` do in turn: here a window's queries, keys and values
are still in a core's caches when they are attended to, and their gradients never leave them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tfa_kernels import _self_attention_nb as kernels
from tfa_kernels._arrays import check_array, empty, flat
from tfa_kernels._chunks import chunk_of, summed
from tfa_kernels._encoder_nb import BLOCK
from tfa_kernels._jit import resolve_threads
from tfa_kernels._layer_arrays import (
    LayerNorm,
    Linear,
    check_columns,
    check_linear,
    check_norm,
    check_shape,
    norm_parts,
    packed,
    transposed,
)
from tfa_kernels._products_nb import PRODUCT
from tfa_kernels._window_attention_nb import ATTEND, ATTEND_GRADIENT
from tfa_kernels.attention import columns_of_heads, scale_of
from tfa_kernels.encoder_layer import BeforeAttentionGradient

__all__ = ["SelfAttention", "self_attention", "self_attention_gradient"]

Array = npt.NDArray[np.float32]


class SelfAttention(NamedTuple):
    """What attention gives [B, T, d], and queries, keys and values [B, T, 3 d]."""

    out: Array
    qkv: Array


def self_attention(
    x: Array, norm: LayerNorm, projection: Linear, heads: int, *, num_threads: int | None = None
) -> SelfAttention:
    """Attention of the normed and projected rows of each window of x, before its own projection.

    Parameters
    ----------
    x : float32 [B, T, d], C-contiguous, T at least 1.
    norm : the norm of d columns.
    projection : weight [3 d, d], d a multiple of 32: queries, keys and values.
    heads : divides d.
    num_threads : threads to use, numba's setting by default; the same bits for any number.

    Raises
    ------
    TypeError : an argument of the wrong type.
    ValueError : a wrong shape, dtype or layout; the message names the argument.
    """
    windows, T, d, width = _checked(x, norm, projection, heads)
    threads = resolve_threads(num_threads)
    made = SelfAttention(empty(windows, T, d), empty(windows, T, 3 * d))
    kernels.self_attention(
        flat(x), _sizes(windows, T, d, int(heads)), norm_parts(norm),
        transposed(projection.weight), flat(projection.bias), scale_of(width),
        (PRODUCT.address, ATTEND.address), made.qkv.reshape(-1), made.out.reshape(-1),
        num_threads=threads,
    )  # fmt: skip
    return made


def self_attention_gradient(
    gradient: Array,
    x: Array,
    qkv: Array,
    norm: LayerNorm,
    projection: Linear,
    heads: int,
    passed: Array,
    *,
    num_threads: int | None = None,
) -> BeforeAttentionGradient:
    """Gradients of `self_attention`'s arguments, from that of its ``out`` [B, T, d].

    ``qkv`` is what it returned. ``passed`` [B, T, d] is added to the gradient of x: what x has from
    elsewhere. Arguments and errors are as there.
    """
    windows, T, d, width = _checked(x, norm, projection, heads)
    for name, array in (("gradient", gradient), ("passed", passed)):
        check_shape(name, array, (windows, T, d))
    check_shape("qkv", qkv, (windows, T, 3 * d))
    threads = resolve_threads(num_threads)
    out = empty(windows, T, d)
    sizes = _sizes(windows, T, d, int(heads))
    *_, chunk, _ = sizes
    parts = (3 * d * d, 3 * d, d, d)
    sums = empty(-(-windows // chunk), sum(parts))
    kernels.self_attention_gradient(
        flat(gradient), flat(x), flat(passed), flat(qkv), sizes, norm_parts(norm),
        packed(projection.weight), scale_of(width),
        (PRODUCT.address, ATTEND_GRADIENT.address), out.reshape(-1), sums, num_threads=threads,
    )  # fmt: skip
    weight, bias, norm_weight, norm_bias = summed(sums, parts, threads)
    return BeforeAttentionGradient(
        out, LayerNorm(norm_weight, norm_bias, norm.eps), Linear(weight.reshape(3 * d, d), bias)
    )


def _checked(x: Any, norm: Any, projection: Any, heads: Any) -> tuple[int, int, int, int]:
    """Windows, rows of one, d, and columns of a head."""
    check_array("x", x, 3, "[B, T, d]")
    windows, T, d = x.shape
    if not T:
        raise ValueError(f"x has shape {x.shape}; at least one row is needed")
    check_columns(f"x has {d} columns", d)
    check_linear("projection", projection, 3 * d, d)
    check_norm("norm", norm, d)
    return windows, T, d, columns_of_heads(3 * d, heads) // int(heads)


def _sizes(windows: int, T: int, d: int, heads: int) -> tuple[int, int, int, int, int, int]:
    chunk = max(1, chunk_of(windows * T) // T)
    return windows, T, d, heads, chunk, max(1, BLOCK // T)
