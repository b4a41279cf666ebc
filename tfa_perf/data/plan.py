"""Which windows of a table exist, and where each one ends: a few runs, not a list of windows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfa_kernels.order import RunIndex

__all__ = ["WindowPlan", "plan_windows", "usable_rows"]

# Candidate windows whose masks are looked at in one go.
_BLOCK = 1 << 20


@dataclass(frozen=True, eq=False)
class WindowPlan:
    """Windows of ``window`` rows, numbered in the order of their rows.

    The label of a window is ``horizon`` rows after its last row; ``index`` knows which row that
    last one is.
    """

    window: int
    horizon: int
    stride: int
    index: RunIndex

    def __len__(self) -> int:
        return self.index.count


def usable_rows(
    rows: int, series: Any, span: Any, embargo: int, first_valid: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First row and end of the usable part of each series, int64 [S] each.

    ``embargo`` rows are left out behind a cut that ``span`` makes inside a series, and the first
    ``first_valid`` rows of each series.
    """
    offsets = _offsets(series, rows)
    low, high = offsets[:-1], offsets[1:]
    usable = np.minimum(low + first_valid, high)
    if span is None:
        if embargo:
            raise ValueError(f"embargo is {embargo}, but there is no span to keep it from")
        return usable, high
    first, stop = _span(span, rows, len(low))
    cut = (first > low) & (first < high)
    first = np.where(cut, first + embargo, np.maximum(low, first))
    return np.maximum(usable, first), np.minimum(high, stop)


def plan_windows(
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    *,
    window: int,
    horizon: int,
    stride: int,
    may_end: NDArray[np.bool_] | None = None,
    may_label: NDArray[np.bool_] | None = None,
    may_cover: NDArray[np.bool_] | None = None,
) -> WindowPlan:
    """Windows inside rows ``low[s] .. high[s] - 1`` of each series, labels included.

    The first window of a series starts at ``low[s]``, each next one ``stride`` rows later. The
    masks, bool [N], say which rows may be a window's last one, which may label one and which may
    be inside one; a window that breaks a mask is left out and moves no other.
    """
    counts = np.maximum((high - low - window - horizon) // stride + 1, 0)
    first_ends = low + window - 1
    masks = (may_end, may_label, may_cover)
    if all(mask is None for mask in masks):
        kept = counts > 0
        ends, lengths = first_ends[kept], counts[kept]
    else:
        bad_before = None
        if may_cover is not None:
            bad_before = np.concatenate([[0], np.cumsum(~may_cover, dtype=np.int64)])
        runs = [
            _runs(ends, _allowed(ends, window, horizon, may_end, may_label, bad_before))
            for ends in _candidates(first_ends, counts, stride)
        ]
        ends = np.concatenate([np.empty(0, np.int64), *(run[0] for run in runs)])
        lengths = np.concatenate([np.empty(0, np.int64), *(run[1] for run in runs)])
    numbers = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
    return WindowPlan(window, horizon, stride, RunIndex(numbers, ends, stride))


def _candidates(
    first_ends: NDArray[np.int64], counts: NDArray[np.int64], stride: int
) -> Iterator[NDArray[np.int64]]:
    for first, count in zip(first_ends.tolist(), counts.tolist(), strict=True):
        for done in range(0, count, _BLOCK):
            yield first + stride * np.arange(done, min(count, done + _BLOCK), dtype=np.int64)


def _allowed(
    ends: NDArray[np.int64],
    window: int,
    horizon: int,
    may_end: NDArray[np.bool_] | None,
    may_label: NDArray[np.bool_] | None,
    bad_before: NDArray[np.int64] | None,
) -> NDArray[np.bool_]:
    allowed = np.ones(len(ends), np.bool_)
    if may_end is not None:
        allowed &= may_end[ends]
    if may_label is not None:
        allowed &= may_label[ends + horizon]
    if bad_before is not None:
        allowed &= bad_before[ends + 1] == bad_before[ends + 1 - window]
    return allowed


def _runs(
    ends: NDArray[np.int64], allowed: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], allowed, [False]])))
    return ends[edges[::2]], (edges[1::2] - edges[::2]).astype(np.int64)


def _offsets(series: Any, rows: int) -> NDArray[np.int64]:
    if series is None:
        return np.array([0, rows], np.int64)
    given = np.asarray(series)
    if given.ndim != 1 or given.size < 2 or given.dtype.kind not in "iu":
        raise TypeError(
            "series: the first row of each series and the number of rows at the end, a 1-D "
            f"integer array of two or more, are needed, got {given.dtype} {given.shape}"
        )
    offsets = given.astype(np.int64)
    if offsets[0] != 0 or offsets[-1] != rows or (np.diff(offsets) < 0).any():
        raise ValueError(
            f"series: boundaries must rise from 0 to the {rows} rows of X, got {series!r}; for one "
            "id a row, pass np.flatnonzero(np.diff(ids, prepend=ids[0]-1, append=ids[-1]+1))"
        )
    return offsets


def _span(span: Any, rows: int, series: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    given = np.asarray(span)
    if given.dtype.kind not in "iu" or given.shape not in ((2,), (series, 2)):
        raise TypeError(
            "span: a pair (first row, end row) of integers is needed, or one pair a series "
            f"[{series}, 2], got {span!r}"
        )
    first, stop = np.broadcast_to(given.astype(np.int64), (series, 2)).T
    wrong = (first < 0) | (stop < first) | (stop > rows)
    if wrong.any():
        s = int(np.argmax(wrong))
        raise ValueError(
            f"span: {int(first[s])}, {int(stop[s])} is not inside 0..{rows} in rising order"
        )
    return first, stop
