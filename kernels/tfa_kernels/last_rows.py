"""What the last row of each window attends to in a pre-norm encoder layer, in float32 on a CPU.

With one query a window, q . (W n) is (q W) . n: a head's query goes through the keys' weight
first, and keys need not exist; nor need values, as the weights of a row add to 1. What remains is
here: scores of the normed rows, a softmax, and their weighted sum, of which the values' weight
makes what attention gives.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tfa_kernels import _last_rows_nb as kernels
from tfa_kernels._arrays import check_array, empty, flat
from tfa_kernels._encoder_nb import add_chunks
from tfa_kernels._jit import resolve_threads
from tfa_kernels._layer_arrays import MULTIPLE, LayerNorm, check_norm, check_shape, norm_parts
from tfa_kernels._products_nb import PRODUCT

__all__ = ["LastAttentionGradient", "last_attention", "last_attention_gradient"]

Array = npt.NDArray[np.float32]

# Chunks of windows, each with gradients of the norm of its own.
_MOST_CHUNKS = 64


class LastAttentionGradient(NamedTuple):
    """Gradients of the arguments of `last_attention`, shaped like them."""

    x: Array
    norm: LayerNorm
    sought: Array


def last_attention(
    x: Array, norm: LayerNorm, sought: Array, *, num_threads: int | None = None
) -> Array:
    """softmax(sought n^T) n of each window, n its normed rows: float32 [B, heads, d].

    Layer norm is that of Ba et al. 2016 (Layer normalization, eq. 4), with the biased variance.
    Sums are float32; the same bits for every ``num_threads``.

    Parameters
    ----------
    x : float32 [B, T, d], C-contiguous, T at least 1, d a multiple of 32.
    norm : the norm of d columns.
    sought : float32 [B, heads, d], C-contiguous, heads at least 1: queries, scaled, times the
        weight of the keys.
    num_threads : threads to use, numba's setting by default.

    Raises
    ------
    TypeError : an argument of the wrong type.
    ValueError : a wrong shape, dtype or layout; the message names the argument.
    """
    windows, rows, d, heads = _checked(x, norm, sought)
    threads = resolve_threads(num_threads)
    out = empty(*sought.shape)
    if windows:
        kernels.last_attention(
            flat(x), flat(sought), (windows, rows, d, heads, _group(windows)), norm_parts(norm),
            PRODUCT.address, out.reshape(-1), num_threads=threads,
        )  # fmt: skip
    return out


def last_attention_gradient(
    gradient: Array,
    x: Array,
    norm: LayerNorm,
    sought: Array,
    *,
    num_threads: int | None = None,
) -> LastAttentionGradient:
    """Gradients of `last_attention`'s arguments, from that of its result [B, heads, d].

    The weights are computed again. Arguments and errors are as there.
    """
    windows, rows, d, heads = _checked(x, norm, sought)
    check_shape("gradient", gradient, sought.shape)
    threads = resolve_threads(num_threads)
    of_x, of_sought = empty(*x.shape), empty(*sought.shape)
    of_norm = np.zeros(2 * d, np.float32)
    if windows:
        group = _group(windows)
        sums = empty(-(-windows // group), 2 * d)
        kernels.last_attention_gradient(
            flat(gradient), flat(x), flat(sought), (windows, rows, d, heads, group),
            norm_parts(norm), PRODUCT.address, of_x.reshape(-1), of_sought.reshape(-1), sums,
            num_threads=threads,
        )  # fmt: skip
        add_chunks(sums, len(sums), 2 * d, 2 * d, of_norm, num_threads=threads)
    weight, bias = np.split(of_norm, 2)
    return LastAttentionGradient(of_x, LayerNorm(weight, bias, norm.eps), of_sought)


def _checked(x: Any, norm: Any, sought: Any) -> tuple[int, int, int, int]:
    """Windows, rows of one, d, and heads."""
    check_array("x", x, 3, "[B, T, d]")
    windows, rows, d = x.shape
    if not rows:
        raise ValueError(f"x has shape {x.shape}; at least one row is needed")
    if d == 0 or d % MULTIPLE:
        raise ValueError(f"x has {d} columns; a multiple of {MULTIPLE} is needed")
    check_norm("norm", norm, d)
    check_array("sought", sought, 3, "[B, heads, d]")
    heads = sought.shape[1]
    if sought.shape != (windows, heads, d) or not heads:
        raise ValueError(
            f"sought has shape {sought.shape}, needs {(windows, 'heads', d)}, heads from 1"
        )
    return windows, rows, d, heads


def _group(windows: int) -> int:
    return -(-windows // _MOST_CHUNKS)
