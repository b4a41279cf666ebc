"""Attention of the rows of each window over one another, in float32 on a CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tfa_kernels._arrays import check_array, check_out, empty, flat
from tfa_kernels._attention_nb import add_groups, attention, attention_gradient
from tfa_kernels._jit import resolve_threads
from tfa_kernels._window_attention_nb import ATTEND, ATTEND_GRADIENT

__all__ = [
    "shared_attention",
    "shared_attention_gradient",
    "window_attention",
    "window_attention_gradient",
]

# Windows that a thread takes at a time: fewer where a batch has few.
_GROUP, _GROUPS = 16, 8


def window_attention(
    qkv: npt.NDArray[np.float32],
    heads: int,
    out: npt.NDArray[np.float32] | None = None,
    *,
    num_threads: int | None = None,
) -> npt.NDArray[np.float32]:
    """softmax(q k^T / sqrt(d / heads)) v of each head of each window, shape [B, T, d].

    Scaled dot-product attention (Vaswani et al. 2017, Attention is all you need, eq. 1), made for
    windows of up to some hundred rows: a head's T x T scores stay in a core's caches, and memory
    is read and written once. Equal to float64 within the rounding of float32; the same bits for
    every ``num_threads``.

    Parameters
    ----------
    qkv : float32 [B, T, 3 d], C-contiguous: queries, keys and values of all heads, in turn.
    heads : divides d; head h has columns h d / heads to (h + 1) d / heads of each of the three.
    out : float32 [B, T, d], C-contiguous, writeable, not overlapping qkv; it is returned.
    num_threads : threads to use, numba's setting by default.

    Raises
    ------
    TypeError : an argument of the wrong type.
    ValueError : a wrong shape, dtype or layout. Nothing is written to ``out`` then.
    """
    windows, rows, d, width = _checked(qkv, heads)
    threads = resolve_threads(num_threads)
    if out is None:
        out = empty(windows, rows, d)
    else:
        check_out(out, (windows, rows, d), np.float32, {"qkv": qkv})
    if out.size:
        attention(
            flat(qkv), windows, rows, width, int(heads), scale_of(width),
            _group(windows, threads), rows * 3 * d, ATTEND.address, out.reshape(-1),
            num_threads=threads,
        )  # fmt: skip
    return out


def window_attention_gradient(
    gradient: npt.NDArray[np.float32],
    qkv: npt.NDArray[np.float32],
    heads: int,
    out: npt.NDArray[np.float32] | None = None,
    *,
    num_threads: int | None = None,
) -> npt.NDArray[np.float32]:
    """Gradient of ``qkv`` [B, T, 3 d], given that of `window_attention`'s result [B, T, d].

    The weights are computed again: the forward pass keeps nothing. Arguments, ``out`` [B, T, 3 d]
    and errors are as for `window_attention`; ``gradient`` is float32 and C-contiguous.
    """
    windows, rows, d, width = _checked(qkv, heads)
    check_array("gradient", gradient, 3, "[B, T, d]")
    if gradient.shape != (windows, rows, d):
        raise ValueError(f"gradient has shape {gradient.shape}, needs {(windows, rows, d)}")
    threads = resolve_threads(num_threads)
    if out is None:
        out = empty(*qkv.shape)
    else:
        check_out(out, qkv.shape, np.float32, {"qkv": qkv, "gradient": gradient})
    if out.size:
        attention_gradient(
            flat(gradient), flat(qkv), windows, rows, width, int(heads),
            scale_of(width), _group(windows, threads), rows * 3 * d, ATTEND_GRADIENT.address,
            out.reshape(-1),
            num_threads=threads,
        )  # fmt: skip
    return out


def shared_attention(
    rows: npt.NDArray[np.float32], window: int, heads: int, *, num_threads: int | None = None
) -> npt.NDArray[np.float32]:
    """`window_attention` of all windows of ``window`` rows in a row, shape [R - window + 1, T, d].

    Each begins one row after the one before, and no copy of it is made.

    Parameters
    ----------
    rows : float32 [R, 3 d], C-contiguous: queries, keys and values of all heads, in turn.
    window : rows of a window, T, from 1 to R.

    Others and errors are as there; the same bits for every ``num_threads``.
    """
    windows, d, width = _checked_rows(rows, window, heads)
    out = empty(windows, window, d)
    attention(
        flat(rows), windows, int(window), width, int(heads), scale_of(width),
        _shared_group(windows), 3 * d, ATTEND.address, out.reshape(-1),
        num_threads=resolve_threads(num_threads),
    )  # fmt: skip
    return out


def shared_attention_gradient(
    gradient: npt.NDArray[np.float32],
    rows: npt.NDArray[np.float32],
    heads: int,
    *,
    num_threads: int | None = None,
) -> npt.NDArray[np.float32]:
    """Gradient of the ``rows`` [R, 3 d], given that of `shared_attention`'s result [B, T, d].

    What windows say of a row that they share is added up.
    """
    check_array("gradient", gradient, 3, "[B, T, d]")
    windows, T, d = gradient.shape
    check_array("rows", rows, 2, "[R, 3 d]")
    if not windows or not T or (windows + T - 1, 3 * d) != rows.shape:
        raise ValueError(
            f"gradient has shape {gradient.shape}, needs (B, T, d) for rows {rows.shape}: "
            "B + T - 1 = R, B and T at least 1"
        )
    windows, d, width = _checked_rows(rows, T, heads)
    threads, group = resolve_threads(num_threads), _shared_group(windows)
    sums = empty(-(-windows // group), group + T - 1, 3 * d)
    attention_gradient(
        flat(gradient), flat(rows), windows, T, width, int(heads), scale_of(width), group, 3 * d,
        ATTEND_GRADIENT.address, sums.reshape(-1), num_threads=threads,
    )  # fmt: skip
    out = empty(*rows.shape)
    add_groups(flat(sums), windows, T, 3 * d, group, out.reshape(-1), num_threads=threads)
    return out


def _checked(qkv: Any, heads: Any) -> tuple[int, int, int, int]:
    """Windows, rows of one, d, and columns of a head."""
    check_array("qkv", qkv, 3, "[B, T, 3 d]")
    windows, rows, columns = qkv.shape
    d = columns_of_heads(columns, heads)
    return windows, rows, d, d // int(heads)


def _checked_rows(rows: Any, window: Any, heads: Any) -> tuple[int, int, int]:
    """Windows, d, and columns of a head."""
    check_array("rows", rows, 2, "[R, 3 d]")
    if isinstance(window, (bool, np.bool_)) or not isinstance(window, (int, np.integer)):
        raise TypeError(f"window must be an int, got {window!r}")
    count, columns = rows.shape
    if not 1 <= window <= count:
        raise ValueError(f"window is {window}; 1 to {count} is needed, the rows that there are")
    d = columns_of_heads(columns, heads, "rows has")
    return count - int(window) + 1, d, d // int(heads)


def columns_of_heads(columns: int, heads: Any, what: str = "qkv has") -> int:
    """d, where there are 3 d ``columns`` for heads to share."""
    if isinstance(heads, (bool, np.bool_)) or not isinstance(heads, (int, np.integer)):
        raise TypeError(f"heads must be an int, got {heads!r}")
    if columns % 3 or columns == 0:
        raise ValueError(f"{what} {columns} columns; a multiple of 3, from 3, is needed: q, k, v")
    d = columns // 3
    if heads < 1 or d % heads:
        raise ValueError(f"heads is {heads}; a divisor of d = {d} is needed")
    return d


def scale_of(width: int) -> np.float32:
    """What scores of heads of ``width`` columns are multiplied with."""
    return np.float32(width**-0.5)


def _group(windows: int, threads: int) -> int:
    return max(1, min(_GROUP, windows // (_GROUPS * threads)))


def _shared_group(windows: int) -> int:
    # Sums over groups must be the same for any number of threads.
    return max(1, min(_GROUP, windows // (2 * _GROUPS)))
