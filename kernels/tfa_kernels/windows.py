"""Gather of fixed-length windows from a row-major table."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tfa_kernels._arrays import check_out
from tfa_kernels._jit import resolve_threads
from tfa_kernels._windows_nb import gather


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
    threads = resolve_threads(num_threads)
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
    rows, columns = X.shape
    if not 1 <= window <= rows:
        raise ValueError(f"window is {window}; allowed: 1..{rows}, the number of rows of X")
    window = int(window)
    first = _checked_starts(starts, rows - window)
    shape = (first.size, window, columns)
    if out is None:
        out = np.empty(shape, X.dtype)
    else:
        check_out(out, shape, X.dtype, {"X": X})
    if out.size:
        row_bytes = columns * X.itemsize
        source = np.asarray(X).reshape(-1).view(np.uint8)
        # Always read-only, so that a table opened read-only needs no second compilation.
        source.flags.writeable = False
        target = np.asarray(out).reshape(-1).view(np.uint8)
        gather(source, first, row_bytes, window * row_bytes, target, num_threads=threads)
    return out


def _checked_starts(starts: npt.ArrayLike, last: int) -> npt.NDArray[np.int64]:
    given = np.asarray(starts)
    if given.ndim != 1:
        raise ValueError(f"starts must be 1-D, got shape {given.shape}")
    if given.size == 0:
        return np.empty(0, np.int64)
    if given.dtype.kind not in "iu":
        raise TypeError(f"starts must have an integer dtype, got {given.dtype}")
    if given.dtype.kind == "u":
        # Values beyond int64 would turn negative in the cast and be reported as something else.
        given = np.minimum(given, given.dtype.type(min(np.iinfo(given.dtype).max, 2**63 - 1)))
    # A private copy: what was checked is what the kernel reads.
    checked = np.array(given, dtype=np.int64)
    if checked.min() < 0 or checked.max() > last:
        at = int(np.flatnonzero((checked < 0) | (checked > last))[0])
        raise ValueError(
            f"starts[{at}] is {checked[at]}; allowed: 0..{last} (rows of X minus window)"
        )
    return checked
