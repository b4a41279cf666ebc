"""Shuffles and window numbers without tables: computed from positions, a stretch at a time."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from tfa_kernels._jit import resolve_threads
from tfa_kernels._order_nb import last_rows, permuted

__all__ = ["RunIndex", "permuted_range", "sides"]

# Elements that are shuffled together, and how many make one more thread worth waking.
_CHUNK, _THREAD = 1024, 4096


def sides(count: int) -> tuple[int, int]:
    """Sides of the smallest nearly square grid that holds ``count`` cells."""
    left = math.isqrt(count - 1) + 1 if count > 0 else 1
    return left, max(1, -(-count // left))


def permuted_range(
    start: int,
    stop: int,
    count: int,
    keys: npt.NDArray[np.uint32],
    *,
    num_threads: int | None = None,
) -> npt.NDArray[np.int64]:
    """Images of ``start`` .. ``stop - 1`` under the permutation of 0..count-1 that ``keys`` name.

    A Feistel network over a grid of nearly equal sides with cycle walking (Black and Rogaway,
    Ciphers with arbitrary finite domains, 2002); its round function mixes well and is no cipher.

    Parameters
    ----------
    start, stop : 0 <= start <= stop <= count.
    count : 0..2**62.
    keys : an even number of round keys; 8 mix well.
    num_threads : most threads to use, one for every few thousand images; numba's setting by
        default.

    Raises
    ------
    TypeError, ValueError : an argument of the wrong type or out of its range.
    """
    for name, value in (("start", start), ("stop", stop), ("count", count)):
        if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
            raise TypeError(f"{name} must be an int, got {value!r}")
    if not 0 <= count <= 2**62:
        raise ValueError(f"count is {count}; allowed: 0..2**62")
    if not 0 <= start <= stop <= count:
        raise ValueError(f"start, stop are {start}, {stop}; allowed: 0 <= start <= stop <= {count}")
    rounds = np.asarray(keys)
    if rounds.dtype != np.uint32 or rounds.ndim != 1 or rounds.size % 2:
        raise ValueError(f"keys must be an even number of uint32, got {keys!r}")
    out = np.empty(stop - start, np.int64)
    worth = max(1, out.size // _THREAD)
    permuted(
        start, count, *sides(count), rounds.astype(np.int64), _CHUNK, out,
        num_threads=min(resolve_threads(num_threads), worth),
    )  # fmt: skip
    return out


class RunIndex:
    """Last rows of numbered windows that lie in runs of equal spacing.

    Run k holds the windows ``windows[k]`` .. ``windows[k+1] - 1``: the first ends at row
    ``ends[k]``, each other ``stride`` rows later. A look-up takes O(1) time where runs are about
    equally long and O(log runs) at worst.

    Parameters
    ----------
    windows : int64 [R+1], rising from 0.
    ends : int64 [R], none negative.
    stride : at least 1.

    Raises
    ------
    TypeError, ValueError : an argument of the wrong type or out of its range.
    """

    def __init__(
        self, windows: npt.NDArray[np.int64], ends: npt.NDArray[np.int64], stride: int
    ) -> None:
        windows, ends = _integers("windows", windows), _integers("ends", ends)
        if isinstance(stride, (bool, np.bool_)) or not isinstance(stride, (int, np.integer)):
            raise TypeError(f"stride must be an int, got {stride!r}")
        if windows.shape != (ends.size + 1,) or windows[0] != 0 or (np.diff(windows) < 1).any():
            raise ValueError(f"windows must rise from 0 with one entry more than ends: {windows!r}")
        if not 1 <= stride < 2**31 or (ends < 0).any():
            raise ValueError(f"stride must be 1..2**31 and no end negative: {stride}, {ends!r}")
        self._windows, self._ends, self._stride = windows, ends, int(stride)
        self.count = int(windows[-1])
        self._shift = 0
        while self.count >> self._shift > 2 * ends.size:
            self._shift += 1
        buckets = np.arange((max(self.count, 1) - 1 >> self._shift) + 1, dtype=np.int64)
        self._hint = np.append(
            np.searchsorted(windows[:-1], buckets << self._shift, side="right") - 1, ends.size - 1
        ).astype(np.int64)

    def last_rows(self, windows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Last rows [b] of int64 windows [b], each 0..count-1, else IndexError."""
        windows = np.ascontiguousarray(windows, np.int64)
        ends = np.empty(windows.shape, np.int64)
        at = last_rows(
            windows, self.count, self._windows, self._ends, self._stride, self._hint, self._shift,
            ends, num_threads=1,
        )  # fmt: skip
        if at >= 0:
            raise IndexError(f"window {windows[at]} of {self.count}: allowed 0..{self.count - 1}")
        return ends


def _integers(name: str, given: npt.ArrayLike) -> npt.NDArray[np.int64]:
    array = np.asarray(given)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise TypeError(f"{name} must be 1-D integers, got {array.dtype} of shape {array.shape}")
    return np.array(array, np.int64)
