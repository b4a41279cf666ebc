"""The rows and labels that windows are cut from, in whatever form they were given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tfa_perf.data.mapped import MappedRows, reopened
from tfa_perf.data.store import FeatureStore

__all__ = [
    "Table",
    "WindowForm",
    "array_dtype",
    "as_tensor",
    "float_dtype",
    "nan_rows",
    "row_blocks",
]

# A numpy array of bfloat16 does not exist: its bits travel as uint16.
_ARRAYS: dict[torch.dtype, np.dtype[Any]] = {
    torch.float32: np.dtype(np.float32),
    torch.float64: np.dtype(np.float64),
    torch.float16: np.dtype(np.float16),
    torch.bfloat16: np.dtype(np.uint16),
}
_FLOATS = {np.dtype(t): d for d, t in _ARRAYS.items() if d is not torch.bfloat16}
_BLOCK_BYTES = 8 << 20


@dataclass(frozen=True, eq=False)
class Table:
    """N rows of F features and their labels, on the CPU or already on a device.

    Attributes
    ----------
    X : [N, F], C-contiguous: an array on the CPU (uint16 for bfloat16), else a tensor.
    y : [N] labels, an array on the CPU or a tensor on the device of X.
    dtype : what the values of X are.
    shift, factor : float32 [F]; a batch holds ``(X - shift) * factor``. None where X is as it is.
    """

    X: NDArray[Any] | torch.Tensor
    y: NDArray[Any] | torch.Tensor
    dtype: torch.dtype
    shift: NDArray[np.float32] | None = None
    factor: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.X)

    def __getstate__(self) -> dict[str, Any]:
        """Maps of files travel to another process as the names of the files."""
        state = dict(self.__dict__)
        for name in ("X", "y"):
            again = reopened(state[name]) if isinstance(state[name], np.ndarray) else None
            state[name] = (again is not None, state[name] if again is None else again)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name in ("X", "y"):
            mapped, given = state[name]
            state[name] = np.memmap(*given).view(np.ndarray) if mapped else given
        self.__dict__.update(state)

    @property
    def columns(self) -> int:
        return int(self.X.shape[1])

    @property
    def nbytes(self) -> int:
        return int(self.X.nbytes)

    @staticmethod
    def of(X: Any, y: Any) -> Table:
        """Check and view ``X`` and ``y`` without copying; a store brings labels and scaler.

        Raises TypeError or ValueError, naming the argument and the fix.
        """
        shift = factor = None
        if isinstance(X, FeatureStore):
            if X.scaler is not None and not X.scaled:
                shift = X.scaler.mean.astype(np.float32)
                factor = (1 / X.scaler.scale).astype(np.float32)
            y = X.labels if y is None else y
            X = X.features
        rows, dtype = _rows(X)
        return Table(rows, _labels(y, rows), dtype, shift, factor)


@dataclass(frozen=True, eq=False)
class WindowForm:
    """What a batch of windows looks like.

    Attributes
    ----------
    window, horizon : rows in a window, T, and rows from its last one to its label.
    dtype : of x. Where it is not the table's, or X is scaled, values are converted on the way.
    unmasked : bool [N], rows without a NaN; with it x has zeros for NaNs, and the mask of its
        rows, bool [b, T], comes after y.
    index : whether the windows' last rows, int64 [b], come last.
    overlapping : whether windows may share memory where they share rows.
    """

    window: int
    horizon: int
    dtype: torch.dtype
    unmasked: NDArray[np.bool_] | None = None
    index: bool = False
    overlapping: bool = False


def float_dtype(dtype: Any) -> torch.dtype:
    """The torch dtype of a torch or numpy dtype; TypeError unless it is one of the four floats."""
    if isinstance(dtype, torch.dtype):
        found: torch.dtype | None = dtype if dtype in _ARRAYS else None
    else:
        found = _FLOATS.get(np.dtype(dtype))
    if found is None:
        raise TypeError(
            f"dtype: float32, float16, bfloat16 or float64 is needed, got {dtype!r}; "
            "for bfloat16 give torch.bfloat16"
        )
    return found


def array_dtype(dtype: torch.dtype) -> np.dtype[Any]:
    """The numpy dtype that carries the values of ``dtype``; uint16 for bfloat16."""
    return _ARRAYS[dtype]


def as_tensor(array: NDArray[Any], dtype: torch.dtype) -> torch.Tensor:
    """A tensor over the memory of ``array``, whose values are ``dtype``."""
    tensor = torch.from_numpy(array)
    return tensor.view(dtype) if dtype is torch.bfloat16 else tensor


def row_blocks(table: Table, low: int = 0, high: int | None = None) -> Iterator[slice]:
    """Slices of a few megabytes each that cover rows low..high-1."""
    high = len(table) if high is None else high
    height = max(1, _BLOCK_BYTES // max(1, table.nbytes // max(1, len(table))))
    for start in range(low, high, height):
        yield slice(start, min(start + height, high))


def nan_rows(table: Table, low: int, high: int) -> NDArray[np.bool_] | None:
    """bool [N], rows of low..high-1 that hold a NaN; None where there is none.

    One pass, of which no pages of a memory-mapped table are left in this process.
    """
    rows = np.zeros(len(table), np.bool_)
    pages = MappedRows.of(table.X)
    for block in row_blocks(table, low, high):
        values = table.X[block]
        if isinstance(values, torch.Tensor):
            rows[block] = values.isnan().any(dim=1).cpu().numpy()
            continue
        # The bits of bfloat16 beyond those of infinity.
        bfloat16 = table.dtype is torch.bfloat16
        nan = (values & 0x7FFF) > 0x7F80 if bfloat16 else np.isnan(values)
        if nan.any():
            rows[block] = nan.any(axis=1)
        if pages is not None:
            pages.release(block.start, block.stop)
    return rows if rows.any() else None


def _rows(X: Any) -> tuple[NDArray[Any] | torch.Tensor, torch.dtype]:
    if isinstance(X, torch.Tensor):
        dtype = X.dtype if X.dtype in _ARRAYS else None
        contiguous, fix = X.is_contiguous(), "X.contiguous()"
    elif isinstance(X, np.ndarray):
        dtype = _FLOATS.get(X.dtype)
        contiguous, fix = X.flags.c_contiguous, "np.ascontiguousarray(X)"
    else:
        dtype = None
    if dtype is None or X.ndim != 2:
        given = f"{X.dtype} {tuple(X.shape)}" if hasattr(X, "dtype") else type(X).__name__
        raise TypeError(
            "X: a float32, float16, bfloat16 or float64 array or tensor [N, F], or a FeatureStore, "
            f"is needed, got {given}; for instance X.astype('float32')"
        )
    if not contiguous:
        raise ValueError(f"X: rows must be contiguous in memory, one after the other; pass {fix}")
    if isinstance(X, torch.Tensor) and X.device.type == "cpu":
        X = X.detach()
        return (X.view(torch.uint16) if dtype is torch.bfloat16 else X).numpy(), dtype
    return X if isinstance(X, torch.Tensor) else X.view(np.ndarray), dtype


def _labels(y: Any, X: NDArray[Any] | torch.Tensor) -> NDArray[Any] | torch.Tensor:
    shape = tuple(getattr(y, "shape", ()))
    if not isinstance(y, (np.ndarray, torch.Tensor)) or shape not in ((len(X),), (len(X), 1)):
        given = f"shape {shape}" if shape else type(y).__name__
        raise TypeError(f"y: an array [{len(X)}] is needed, one label a row, got {given}")
    y = y.reshape(-1)
    if isinstance(X, torch.Tensor):
        return torch.as_tensor(y).detach().to(X.device)
    if isinstance(y, torch.Tensor):
        y = y.detach().cpu().numpy() if y.dtype is not torch.bfloat16 else None
    if y is None or y.dtype.kind not in "biuf" or not y.dtype.isnative:
        raise TypeError("y: labels must be native floats, integers or bools; y.astype('float32')")
    return y.view(np.ndarray)
