"""Gather of fixed-length windows from a row-major table."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tfa_kernels._arrays import check_out
from tfa_kernels._convert_nb import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, LANES, gather_converted
from tfa_kernels._jit import resolve_threads
from tfa_kernels._windows_nb import first_outside, gather

__all__ = ["WindowGather", "gather_windows"]

_KINDS = {
    np.dtype(np.float32): FLOAT32,
    np.dtype(np.float64): FLOAT64,
    np.dtype(np.float16): FLOAT16,
    np.dtype(np.uint16): BFLOAT16,
}
# Windows that a thread takes at a time: fewer where a batch has few.
_GROUP, _GROUPS = 64, 16
# More than a shared cache keeps until somebody reads it: written past the caches. Smaller batches
# take up to 1.3 times as long to gather and then read where they are not left there.
_STREAM_BYTES = 8 << 20
_NO_LABELS = np.empty(0, np.uint8)


def gather_windows(
    X: npt.NDArray[Any],
    starts: npt.ArrayLike,
    window: int,
    out: npt.NDArray[Any] | None = None,
    *,
    num_threads: int | None = None,
) -> npt.NDArray[Any]:
    """Return ``out[b] = X[starts[b] : starts[b] + window]``, shape [B, window, F], dtype of X.

    Parameters
    ----------
    X : [N, F], C-contiguous, any boolean, integer, float or complex dtype; read-only and
        memory-mapped arrays are fine.
    starts : [B] integers in any order, repeats allowed, each in 0..N-window; they are copied and
        checked on every call.
    window : 1..N rows.
    out : [B, window, F] of X's dtype, C-contiguous, writeable, not overlapping X; it is returned.
    num_threads : threads to use, numba's setting by default.

    Raises
    ------
    TypeError : an argument of the wrong type.
    ValueError : a wrong shape, dtype, layout or bound. Nothing is written to ``out`` then.
    """
    kernel = WindowGather(X, window, num_threads=num_threads)
    first = kernel.checked(starts)
    shape = (first.size, int(window), X.shape[1])
    if out is None:
        out = np.empty(shape, X.dtype)
    else:
        check_out(out, shape, X.dtype, {"X": X})
    kernel.fill(first, out.reshape(-1).view(np.uint8))
    return out


class WindowGather:
    """`gather_windows` of one table, whose checks are done once, with a conversion on the way.

    ``dtype`` or ``shift`` make it convert: a window then holds ``(rows - shift) * factor``. The
    arithmetic is float32, rounded to nearest even on the way in and out, as torch rounds.

    Parameters
    ----------
    X, window, num_threads : as for `gather_windows`; to convert, X is float32, float64, float16
        or uint16, which stands for the bits of bfloat16 and of nothing else.
    dtype : of the windows, one of the same four; X's by default.
    shift, factor : [F] finite float32 each, both or neither.
    labels : [N], contiguous; the label of a window is ``horizon`` rows after its last row, and
        windows without one are refused.
    horizon : 0 or more.

    Raises
    ------
    TypeError, ValueError : an argument of the wrong type, shape, dtype, layout or bound.
    """

    def __init__(
        self,
        X: npt.NDArray[Any],
        window: int,
        *,
        dtype: npt.DTypeLike | None = None,
        shift: npt.ArrayLike | None = None,
        factor: npt.ArrayLike | None = None,
        labels: npt.NDArray[Any] | None = None,
        horizon: int = 0,
        num_threads: int | None = None,
    ) -> None:
        resolve_threads(num_threads)
        self._threads = num_threads
        window = _checked_table(X, window)
        wanted = X.dtype if dtype is None else _dtype(dtype)
        if (shift is None) != (factor is None):
            raise ValueError("shift and factor go together; give zeros or ones for the other")
        self._converts = shift is not None or dtype is not None
        for name, kind in (("X", X.dtype), ("out", wanted)):
            if self._converts and kind not in _KINDS:
                raise TypeError(
                    f"{name} must be a float32, float64, float16 or uint16 (bfloat16 bits) array, "
                    f"got {kind}"
                )
        rows, columns = X.shape
        self._last, self._columns, self._values = rows - window, columns, window * columns
        self._item, self._out_item = X.itemsize, wanted.itemsize
        self._kinds = _KINDS.get(X.dtype), _KINDS.get(wanted)
        self._shift = _per_value("shift", shift, window, columns)
        self._factor = _per_value("factor", factor, window, columns)
        self._flat = _read_only_bytes(X)
        self._labels, self._label_row, self._label_bytes = _read_only_bytes(_NO_LABELS), 0, 0
        if labels is not None:
            self._last -= _checked_labels(labels, rows, window, horizon)
            self._labels, self._label_bytes = _read_only_bytes(labels), labels.itemsize
            self._label_row = window - 1 + horizon

    def checked(self, starts: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """A copy of ``starts`` as int64; raises TypeError or ValueError as `gather_windows`.

        Write nothing into it: `fill_checked` relies on it.
        """
        given = np.asarray(starts)
        if given.ndim != 1:
            raise ValueError(f"starts must be 1-D, got shape {given.shape}")
        if given.size == 0:
            return np.empty(0, np.int64)
        if given.dtype.kind not in "iu":
            raise TypeError(f"starts must have an integer dtype, got {given.dtype}")
        if given.dtype.kind == "u":
            # Values beyond int64 would turn negative in the cast and be reported as such.
            given = np.minimum(given, given.dtype.type(min(np.iinfo(given.dtype).max, 2**63 - 1)))
        # A private copy: what was checked is what the kernel reads.
        copy = np.array(given, dtype=np.int64)
        at = first_outside(copy, self._last, num_threads=1)
        if at >= 0:
            raise ValueError(
                f"starts[{at}] is {copy[at]}; allowed: 0..{self._last} "
                "(rows of X minus window, and minus horizon where there are labels)"
            )
        return copy

    def fill(self, starts: npt.ArrayLike, out: npt.NDArray[np.uint8]) -> None:
        """Write the windows that start at rows ``starts`` [B] into the bytes ``out``.

        ``out`` is uint8, 1-D, contiguous, as many bytes as the windows have, apart from X.

        Raises
        ------
        TypeError, ValueError : as `gather_windows`.
        """
        self.fill_checked(self.checked(starts), out)

    def fill_checked(
        self,
        first: npt.NDArray[np.int64],
        out: npt.NDArray[np.uint8],
        label_out: npt.NDArray[np.uint8] | None = None,
    ) -> None:
        """`fill` for what `checked` returned, or for consecutive elements of it.

        ``label_out`` takes the windows' labels, as bytes in a row as well.
        """
        _check_bytes("out", out, first.size * self._values * self._out_item)
        label_bytes = 0 if label_out is None else self._label_bytes
        if label_out is None:
            label_out = np.empty(0, np.uint8)
        else:
            _check_bytes("label_out", label_out, first.size * label_bytes)
        if not first.size:
            return
        group = max(1, min(_GROUP, first.size // _GROUPS))
        stream = out.size >= _STREAM_BYTES
        labels = self._labels, self._label_row, label_bytes, label_out
        if self._converts:
            kind, out_kind = self._kinds
            gather_converted(
                self._flat, kind, self._item, first, self._columns, self._values,
                self._shift, self._factor, group, stream, out, out_kind, self._out_item,
                *labels, num_threads=self._threads,
            )  # fmt: skip
        else:
            gather(
                self._flat, first, self._columns * self._item, self._values * self._item,
                group, stream, out, *labels, num_threads=self._threads,
            )  # fmt: skip


def _read_only_bytes(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    # Read-only, so that an array opened read-only needs no second compilation.
    flat = np.asarray(array).reshape(-1).view(np.uint8)
    flat.flags.writeable = False
    return flat


def _check_bytes(name: str, out: npt.NDArray[np.uint8], size: int) -> None:
    if not isinstance(out, np.ndarray):
        raise TypeError(f"{name} must be a numpy array, got {type(out).__name__}")
    flags = out.flags
    if out.dtype != np.uint8 or out.shape != (size,) or not flags.c_contiguous:
        raise ValueError(f"{name} must be {size} bytes in a row, got {out.dtype} {out.shape}")
    if not flags.writeable:
        raise ValueError(f"{name} is read-only; pass a writeable array")


def _checked_labels(labels: object, rows: int, window: int, horizon: object) -> int:
    if not isinstance(labels, np.ndarray) or labels.dtype.hasobject:
        raise TypeError(f"labels must be a numeric numpy array, got {type(labels).__name__}")
    if labels.shape != (rows,) or not labels.flags.c_contiguous:
        raise ValueError(
            f"labels must be contiguous and one for each of the {rows} rows of X, got shape "
            f"{labels.shape}; pass np.ascontiguousarray(labels)"
        )
    if isinstance(horizon, (bool, np.bool_)) or not isinstance(horizon, (int, np.integer)):
        raise TypeError(f"horizon must be an int, got {horizon!r}")
    if not 0 <= horizon <= rows - window:
        raise ValueError(f"horizon is {horizon}; allowed: 0..{rows - window}, rows after a window")
    return int(horizon)


def _checked_table(X: object, window: object) -> int:
    if not isinstance(X, np.ndarray):
        raise TypeError(f"X must be a numpy array, got {type(X).__name__}; use np.asarray")
    if X.ndim != 2:
        raise ValueError(f"X must be 2-D [rows, features], got shape {X.shape}")
    if X.dtype.kind not in "biufc":
        raise TypeError(f"X must have a numeric dtype, got {X.dtype}")
    if not X.flags.c_contiguous:
        raise ValueError(
            "X must be C-contiguous: a window is copied as one run of memory; "
            "pass np.ascontiguousarray(X)"
        )
    if isinstance(window, (bool, np.bool_)) or not isinstance(window, (int, np.integer)):
        raise TypeError(f"window must be an int, got {window!r}")
    if not 1 <= window <= len(X):
        raise ValueError(f"window is {window}; allowed: 1..{len(X)}, the number of rows of X")
    return int(window)


def _dtype(given: npt.DTypeLike) -> np.dtype[Any]:
    try:
        return np.dtype(given)
    except (TypeError, ValueError, SyntaxError) as error:
        raise TypeError(f"dtype is {given!r}, which numpy does not know") from error


def _per_value(
    name: str, given: npt.ArrayLike | None, window: int, columns: int
) -> npt.NDArray[np.float32]:
    if given is None:
        return np.empty(0, np.float32)
    try:
        with np.errstate(over="ignore"):
            values = np.asarray(given, np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise TypeError(f"{name} must be {columns} finite numbers, got {given!r}") from error
    if values.shape != (columns,) or not np.isfinite(values).all():
        raise ValueError(
            f"{name} must be {columns} finite numbers, one for each column of X, "
            f"got shape {values.shape}: {given!r}"
        )
    # As long as a window and one step more, so that the kernel need not know of columns.
    return np.resize(values, window * columns + LANES)
