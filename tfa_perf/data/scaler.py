"""Standardisation fitted on training rows alone, for tables larger than memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_BLOCK_BYTES = 4 << 20


@dataclass(frozen=True, eq=False)
class Scaler:
    """`(x - mean) / scale` per column.

    Attributes
    ----------
    mean : float64 [F].
    scale : float64 [F], the population standard deviation; 1 for a constant column.

    Raises
    ------
    ValueError : the two differ in length, a value is not finite or a scale not positive.
    """

    mean: npt.NDArray[np.float64]
    scale: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        for name in ("mean", "scale"):
            try:
                value = np.array(getattr(self, name), np.float64)
            except (TypeError, ValueError) as error:
                raise ValueError(f"scaler {name} must be numbers: {error}") from error
            if value.ndim != 1 or not np.isfinite(value).all():
                raise ValueError(f"scaler {name} must be a 1-D array of finite numbers")
            object.__setattr__(self, name, value)
        if self.mean.size != self.scale.size or not (self.scale > 0).all():
            raise ValueError(
                f"scaler needs one positive scale per mean, got {self.mean.size} means and "
                f"{self.scale.size} scales"
            )

    def to_dict(self) -> dict[str, list[float]]:
        """Plain lists, which JSON keeps exactly."""
        return {"mean": self.mean.tolist(), "scale": self.scale.tolist()}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Scaler:
        """The inverse of `to_dict`; raises ValueError for anything else."""
        if not isinstance(data, dict) or set(data) != {"mean", "scale"}:
            raise ValueError("a scaler is written as {'mean': [...], 'scale': [...]}")
        return cls(data["mean"], data["scale"])


def fit_scaler(
    X: npt.NDArray[Any],
    rows: npt.NDArray[np.bool_] | npt.NDArray[np.integer[Any]],
    names: Sequence[str] | None = None,
) -> Scaler:
    """Mean and population standard deviation of the given rows of X, and of no others.

    Reads X once, a few megabytes at a time, and merges the moments of the blocks in float64
    (Chan, Golub and LeVeque 1979), about the first given row, so that a constant column comes
    out exactly constant.

    Parameters
    ----------
    X : [N, F] numbers; may be memory-mapped.
    rows : the training rows, a bool mask [N] or integer indices; a repeated index counts once.
    names : F column names for the error messages.

    Raises
    ------
    ValueError : no rows, rows outside X, or a value in them that is NaN or infinite.
    """
    X = _table(X)
    mask = _row_mask(rows, X.shape[0])
    if names is not None and len(names) != X.shape[1]:
        raise ValueError(f"names has {len(names)} entries, X has {X.shape[1]} columns")
    shift = X[int(mask.argmax())].astype(np.float64)
    count = 0
    mean = np.zeros(X.shape[1])
    squares = np.zeros(X.shape[1])
    for block_rows in _blocks(X):
        chosen = np.flatnonzero(mask[block_rows])
        if not chosen.size:
            continue
        block = X[block_rows][chosen].astype(np.float64)
        finite = np.isfinite(block)
        if not finite.all():
            i, column = (int(k) for k in np.argwhere(~finite)[0])
            name = f"column {column}" if names is None else f"column {names[column]!r}"
            raise ValueError(
                f"{name} is {block[i, column]} at row {block_rows.start + chosen[i]}; "
                "leave rows before the longest lookback out of the training rows"
            )
        block -= shift
        block_mean = block.mean(axis=0)
        block -= block_mean
        delta = block_mean - mean
        total = count + chosen.size
        squares += np.square(block).sum(axis=0) + delta**2 * (count * chosen.size / total)
        mean += delta * (chosen.size / total)
        count = total
    deviation = np.sqrt(squares / count)
    return Scaler(mean + shift, np.where(deviation > 0, deviation, 1.0))


def transform(
    scaler: Scaler,
    X: npt.NDArray[Any],
    out: npt.NDArray[np.float32] | None = None,
) -> npt.NDArray[np.float32]:
    """Scaled float32 copy of X [N, F], or into `out` [N, F] float32, which may be X itself.

    The arithmetic is float64, a few megabytes at a time. NaN stays NaN.

    Raises
    ------
    ValueError : X or `out` of the wrong shape or dtype, or overlapping in part.
    """
    X = _table(X)
    if X.shape[1] != scaler.mean.size:
        raise ValueError(f"X has {X.shape[1]} columns, the scaler {scaler.mean.size}")
    if out is None:
        out = np.empty(X.shape, np.float32)
    elif out.shape != X.shape or out.dtype != np.float32:
        raise ValueError(
            f"out must be float32 of shape {X.shape}, got {out.dtype} of shape {out.shape}"
        )
    elif np.may_share_memory(X, out) and (
        X.__array_interface__["data"] != out.__array_interface__["data"]
        or (X.strides, X.dtype) != (out.strides, out.dtype)
    ):
        raise ValueError("out overlaps X in part; pass X itself, or separate memory")
    for rows in _blocks(X):
        block = X[rows].astype(np.float64)
        block -= scaler.mean
        block /= scaler.scale
        out[rows] = block
    return out


def _table(X: npt.NDArray[Any]) -> npt.NDArray[Any]:
    X = np.asarray(X)
    if X.ndim != 2 or X.dtype.kind not in "fiu":
        raise ValueError(f"X must be a 2-D array of numbers, got {X.dtype} of shape {X.shape}")
    return X


def _row_mask(rows: npt.NDArray[Any], n: int) -> npt.NDArray[np.bool_]:
    rows = np.asarray(rows)
    if rows.ndim != 1 or rows.dtype.kind not in "biu":
        raise ValueError(f"rows must be a bool mask or integer indices, got {rows.dtype}")
    if rows.dtype == np.bool_:
        if rows.size != n:
            raise ValueError(f"rows masks {rows.size} rows, X has {n}")
        mask = rows
    else:
        if rows.size and not (rows.min() >= 0 and rows.max() < n):
            raise ValueError(f"rows must lie in 0..{n - 1}, got {rows.min()}..{rows.max()}")
        mask = np.zeros(n, np.bool_)
        mask[rows] = True
    if not mask.any():
        raise ValueError("rows chooses no row; give at least one training row")
    return mask


def _blocks(X: npt.NDArray[Any]) -> list[slice]:
    height = max(1, _BLOCK_BYTES // (8 * max(1, X.shape[1])))
    return [slice(start, start + height) for start in range(0, X.shape[0], height)]
