"""A pre-norm transformer encoder layer before and after its attention, in float32 on a CPU.

With ``qkv = before_attention(x, ...)``, ``mixed = window_attention(qkv, heads)`` and
``after_attention(x, mixed, ...)`` a layer is three kernels, and its gradient three more. What lies
between products (norms, GELU, biases, sums) is done to some rows at a time while a core's caches
hold them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tfa_kernels import _encoder_nb as kernels
from tfa_kernels._arrays import empty, flat
from tfa_kernels._chunks import chunk_of, chunk_sums, summed
from tfa_kernels._jit import resolve_threads
from tfa_kernels._layer_arrays import (
    MULTIPLE,
    LayerNorm,
    Linear,
    check_linear,
    check_norm,
    check_shape,
    norm_parts,
    packed,
    rows_of,
    transposed,
)
from tfa_kernels._products_nb import PRODUCT

__all__ = [
    "MULTIPLE",
    "AfterAttention",
    "AfterAttentionGradient",
    "BeforeAttentionGradient",
    "LayerNorm",
    "Linear",
    "after_attention",
    "after_attention_gradient",
    "before_attention",
    "before_attention_gradient",
]

Array = npt.NDArray[np.float32]


class BeforeAttentionGradient(NamedTuple):
    """Gradients of the arguments of `before_attention`, shaped like them."""

    x: Array
    norm: LayerNorm
    projection: Linear


class AfterAttention(NamedTuple):
    """The layer's result [rows, d], and what the gradient needs of the way to it."""

    out: Array
    middle: Array
    before_gelu: Array


class AfterAttentionGradient(NamedTuple):
    """Gradients of the arguments of `after_attention`, shaped like them."""

    x: Array
    mixed: Array
    output: Linear
    norm: LayerNorm
    first: Linear
    second: Linear


def before_attention(
    x: Array, norm: LayerNorm, projection: Linear, *, num_threads: int | None = None
) -> Array:
    """Return the linear ``projection`` of the normed rows of x, float32 [rows, columns].

    Layer norm is that of Ba et al. 2016 (Layer normalization, eq. 4), with the biased variance.
    Sums are float32; the same bits for every ``num_threads``.

    Parameters
    ----------
    x : float32 [rows, d], C-contiguous.
    norm : the norm of d columns.
    projection : weight [columns, d]: d and columns are multiples of 32.
    num_threads : threads to use, numba's setting by default.

    Raises
    ------
    TypeError : an argument of the wrong type.
    ValueError : a wrong shape, dtype or layout; the message names the argument.
    """
    rows, d = rows_of("x", x)
    columns = check_linear("projection", projection, None, d)
    check_norm("norm", norm, d)
    threads = resolve_threads(num_threads)
    out = empty(rows, columns)
    kernels.before_attention(
        flat(x), (rows, d, columns, chunk_of(rows)), norm_parts(norm),
        transposed(projection.weight), flat(projection.bias), PRODUCT.address, out.reshape(-1),
        num_threads=threads,
    )  # fmt: skip
    return out


def before_attention_gradient(
    gradient: Array,
    x: Array,
    norm: LayerNorm,
    projection: Linear,
    passed: Array,
    *,
    num_threads: int | None = None,
) -> BeforeAttentionGradient:
    """Gradients of `before_attention`'s arguments, from that of its result [rows, columns].

    ``passed`` [rows, d] is added to that of x: the gradient that x has from elsewhere, in a
    pre-norm layer from the sum that goes past it. Arguments and errors are as there.
    """
    rows, d = rows_of("x", x)
    columns = check_linear("projection", projection, None, d)
    check_norm("norm", norm, d)
    check_shape("gradient", gradient, (rows, columns))
    check_shape("passed", passed, (rows, d))
    threads = resolve_threads(num_threads)
    out = empty(rows, d)
    parts = (columns * d, columns, d, d)
    sums = chunk_sums(rows, sum(parts))
    kernels.before_attention_gradient(
        flat(gradient), flat(x), flat(passed), (rows, d, columns, chunk_of(rows)), norm_parts(norm),
        packed(projection.weight), PRODUCT.address, out.reshape(-1), sums, num_threads=threads,
    )  # fmt: skip
    weight, bias, norm_weight, norm_bias = summed(sums, parts, threads)
    return BeforeAttentionGradient(
        out,
        LayerNorm(norm_weight, norm_bias, norm.eps),
        Linear(weight.reshape(columns, d), bias),
    )


def after_attention(
    x: Array,
    mixed: Array,
    output: Linear,
    norm: LayerNorm,
    first: Linear,
    second: Linear,
    *,
    keep: bool = True,
    num_threads: int | None = None,
) -> AfterAttention:
    """``middle = x + output(mixed)``, and ``out = middle + second(gelu(first(norm(middle))))``.

    GELU is the exact one, x times the normal distribution's share below x (Hendrycks and Gimpel
    2016, Gaussian error linear units). Sums are float32; the same bits for every ``num_threads``.

    Parameters
    ----------
    x, mixed : float32 [rows, d], C-contiguous: what went into the layer, and attention's result.
    output : weight [d, d].
    norm : the norm of d columns.
    first, second : weights [hidden, d] and [d, hidden]: d and hidden are multiples of 32.
    keep : keep what `after_attention_gradient` needs; without, ``before_gelu`` has no rows.
    num_threads : threads to use, numba's setting by default.

    Raises
    ------
    TypeError : an argument of the wrong type.
    ValueError : a wrong shape, dtype or layout; the message names the argument.
    """
    rows, d, hidden = _check_after(x, mixed, output, norm, first, second)
    threads = resolve_threads(num_threads)
    made = AfterAttention(empty(rows, d), empty(rows, d), empty(rows if keep else 0, hidden))
    kernels.after_attention(
        flat(x), flat(mixed), (rows, d, hidden, chunk_of(rows)), transposed(output.weight),
        flat(output.bias), norm_parts(norm), transposed(first.weight), flat(first.bias),
        transposed(second.weight), flat(second.bias), PRODUCT.address, made.middle.reshape(-1),
        made.before_gelu.reshape(-1), made.out.reshape(-1), num_threads=threads,
    )  # fmt: skip
    return made


def after_attention_gradient(
    gradient: Array,
    mixed: Array,
    made: AfterAttention,
    output: Linear,
    norm: LayerNorm,
    first: Linear,
    second: Linear,
    *,
    num_threads: int | None = None,
) -> AfterAttentionGradient:
    """Gradients of `after_attention`'s arguments, from that of its result [rows, d].

    ``made`` is what it returned; ``made.out`` is not read. Arguments and errors are as there.
    """
    if not isinstance(made, AfterAttention):
        raise TypeError(f"made must be what after_attention returned, got {type(made).__name__}")
    rows, d, hidden = _check_after(made.middle, mixed, output, norm, first, second, "made.middle")
    check_shape("gradient", gradient, (rows, d))
    check_shape("made.before_gelu", made.before_gelu, (rows, hidden))
    threads = resolve_threads(num_threads)
    of_x, of_mixed = empty(rows, d), empty(rows, d)
    parts = (d * d, d, d, d, hidden * d, hidden, d * hidden, d)
    sums = chunk_sums(rows, sum(parts))
    kernels.after_attention_gradient(
        flat(gradient), flat(mixed), flat(made.middle), flat(made.before_gelu),
        (rows, d, hidden, chunk_of(rows)), packed(output.weight), norm_parts(norm),
        packed(first.weight), packed(second.weight), PRODUCT.address, of_x.reshape(-1),
        of_mixed.reshape(-1), sums, num_threads=threads,
    )  # fmt: skip
    weight, bias, norm_weight, norm_bias, weight_1, bias_1, weight_2, bias_2 = summed(
        sums, parts, threads
    )
    return AfterAttentionGradient(
        of_x,
        of_mixed,
        Linear(weight.reshape(d, d), bias),
        LayerNorm(norm_weight, norm_bias, norm.eps),
        Linear(weight_1.reshape(hidden, d), bias_1),
        Linear(weight_2.reshape(d, hidden), bias_2),
    )


def _check_after(
    x: Any, mixed: Any, output: Any, norm: Any, first: Any, second: Any, name: str = "x"
) -> tuple[int, int, int]:
    rows, d = rows_of(name, x)
    check_shape("mixed", mixed, (rows, d))
    check_linear("output", output, d, d)
    check_norm("norm", norm, d)
    hidden = check_linear("first", first, None, d)
    check_linear("second", second, d, hidden)
    return rows, d, hidden
