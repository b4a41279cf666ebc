"""Checks of arrays given by the caller."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tfa_kernels._memory_nb import on_lines


def check_array(name: str, array: Any, ndim: int, shape: str) -> None:
    """Raise unless it is a C-contiguous float32 array of ``ndim`` axes, in words ``shape``.

    TypeError for another type or dtype, ValueError otherwise.
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} must be a numpy array, got {type(array).__name__}")
    if array.dtype != np.float32:
        raise TypeError(f"{name} has dtype {array.dtype}, needs float32; use .astype(np.float32)")
    if array.ndim != ndim:
        raise ValueError(f"{name} has shape {array.shape}; {shape} is needed")
    if not (array.flags.c_contiguous and array.flags.aligned):
        raise ValueError(
            f"{name} must be C-contiguous and aligned; use np.ascontiguousarray({name})"
        )


def flat(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """View of a C-contiguous array in one axis, always read-only.

    Numba compiles anew for arrays that cannot be written to: so there is one kind.
    """
    view = array.reshape(-1).view()
    view.flags.writeable = False
    return view


def empty(*shape: int) -> npt.NDArray[np.float32]:
    """Float32 for a result, on lines of the caches."""
    return on_lines(math.prod(shape)).reshape(shape)


def check_out(
    out: object,
    shape: tuple[int, ...],
    dtype: npt.DTypeLike,
    inputs: Mapping[str, npt.NDArray[Any]],
) -> None:
    """Raise unless out is writeable, C-contiguous, of that shape and dtype, and apart from inputs.

    TypeError where it is no array, ValueError otherwise.
    """
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out must be a numpy array, got {type(out).__name__}")
    if out.shape != shape:
        raise ValueError(f"out has shape {out.shape}, needs {shape}")
    if out.dtype != dtype:
        raise ValueError(f"out has dtype {out.dtype}, needs {np.dtype(dtype)}")
    if not out.flags.c_contiguous:
        raise ValueError("out must be C-contiguous; allocate it with np.empty(shape, dtype)")
    if not out.flags.aligned:
        raise ValueError(
            "out must be aligned to its dtype; allocate it with np.empty(shape, dtype)"
        )
    if not out.flags.writeable:
        raise ValueError("out is read-only; pass a writeable array (np.memmap needs mode 'r+')")
    for name, array in inputs.items():
        if np.may_share_memory(out, array):
            raise ValueError(f"out overlaps {name} in memory; pass a separate array")
