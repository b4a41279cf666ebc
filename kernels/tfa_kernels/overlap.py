"""Sums of what consecutive windows say of each row that they share."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tfa_kernels._arrays import check_array, check_out, empty, flat
from tfa_kernels._jit import resolve_threads
from tfa_kernels._overlap_nb import overlap_add as add

__all__ = ["overlap_add"]


def overlap_add(
    windows: npt.NDArray[np.float32],
    out: npt.NDArray[np.float32] | None = None,
    *,
    num_threads: int | None = None,
) -> npt.NDArray[np.float32]:
    """Return rows [B + T - 1, C], where row r is the sum of ``windows[w, r - w]`` over w.

    The adjoint of cutting every window of T rows: the gradient of the rows, given that of the
    windows. Sums are float32, in the order of the windows, so the same bits for every
    ``num_threads``.

    Parameters
    ----------
    windows : float32 [B, T, C], B and T at least 1, C-contiguous; window w begins at row w.
    out : float32 [B + T - 1, C], C-contiguous, writeable, not overlapping windows; it is returned.
    num_threads : threads to use, numba's setting by default.

    Raises
    ------
    TypeError : an argument of the wrong type.
    ValueError : a wrong shape, dtype or layout. Nothing is written to ``out`` then.
    """
    check_array("windows", windows, 3, "[B, T, C]")
    count, rows, columns = windows.shape
    if not (count and rows):
        raise ValueError(f"windows has shape {windows.shape}; at least one row is needed")
    threads = resolve_threads(num_threads)
    shape = (count + rows - 1, columns)
    if out is None:
        out = empty(*shape)
    else:
        check_out(out, shape, np.float32, {"windows": windows})
    add(flat(windows), count, rows, columns, out.reshape(-1), num_threads=threads)
    return out
