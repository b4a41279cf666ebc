"""Parameters of an encoder layer as arrays: their checks, and the order products read them in."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tfa_kernels._arrays import check_array, empty, flat
from tfa_kernels._products_nb import pack, pack_turned

__all__ = [
    "MULTIPLE",
    "LayerNorm",
    "Linear",
    "check_columns",
    "check_linear",
    "check_norm",
    "check_shape",
    "norm_parts",
    "packed",
    "rows_of",
    "transposed",
]

Array = npt.NDArray[np.float32]

# Whole panels of columns, on processors of any width of vectors.
MULTIPLE = 32


class LayerNorm(NamedTuple):
    """weight and bias, float32 [d], and what is added to the variance."""

    weight: Array
    bias: Array
    eps: float = 1e-5


class Linear(NamedTuple):
    """y = x weight^T + bias: weight float32 [columns of y, columns of x], bias [columns of y]."""

    weight: Array
    bias: Array


def rows_of(name: str, array: Any) -> tuple[int, int]:
    check_array(name, array, 2, "[rows, d]")
    check_columns(f"{name} has {array.shape[1]} columns", array.shape[1])
    return int(array.shape[0]), int(array.shape[1])


def check_linear(name: str, linear: Any, columns: int | None, d: int) -> int:
    """Raise unless it takes d columns to ``columns``, or to any whole panels; how many."""
    if not isinstance(linear, Linear):
        raise TypeError(f"{name} must be a Linear(weight, bias), got {type(linear).__name__}")
    check_array(f"{name}.weight", linear.weight, 2, "[columns, d]")
    if columns is None:
        columns = int(linear.weight.shape[0])
        check_columns(f"{name}.weight has {columns} rows", columns)
    check_shape(f"{name}.weight", linear.weight, (columns, d))
    check_shape(f"{name}.bias", linear.bias, (columns,))
    return columns


def check_norm(name: str, norm: Any, d: int) -> None:
    if not isinstance(norm, LayerNorm):
        raise TypeError(f"{name} must be a LayerNorm(weight, bias), got {type(norm).__name__}")
    check_shape(f"{name}.weight", norm.weight, (d,))
    check_shape(f"{name}.bias", norm.bias, (d,))
    number = isinstance(norm.eps, (int, float, np.integer, np.floating))
    if not number or isinstance(norm.eps, bool):
        raise TypeError(f"{name}.eps must be a number, got {norm.eps!r}")
    # The rows of a norm without it may be divided by 0.
    if not (0 < norm.eps < np.inf and np.float32(norm.eps) > 0):
        raise ValueError(f"{name}.eps is {norm.eps}; a finite number above 0 is needed, as 1e-5")


def norm_parts(norm: LayerNorm) -> tuple[Array, Array, np.float32]:
    """The norm as kernels take it."""
    return flat(norm.weight), flat(norm.bias), np.float32(norm.eps)


def check_shape(name: str, array: Any, shape: tuple[int, ...]) -> None:
    check_array(name, array, len(shape), str(shape))
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, needs {shape}")


def check_columns(what: str, columns: int) -> None:
    if columns == 0 or columns % MULTIPLE:
        raise ValueError(f"{what}; a multiple of {MULTIPLE} is needed")


def transposed(weight: Array) -> Array:
    """Panels of [columns of x, columns of y], what rows of x are multiplied by."""
    columns, depth = weight.shape
    out = empty(weight.size)
    pack_turned(flat(weight), depth, columns, out)
    return out


def packed(weight: Array) -> Array:
    """Panels of the weight as it is, what rows of the gradient of y are multiplied by."""
    depth, columns = weight.shape
    out = empty(weight.size)
    pack(flat(weight), depth, columns, out)
    return out
