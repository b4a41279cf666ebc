"""Which windows train and which validate: a split in time that shares no row."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Split", "SplitError", "split_windows"]


class SplitError(ValueError):
    """The bars do not hold a window on either side of the split."""


class Split(NamedTuple):
    """Rows and window ends of a training and a validation part.

    ``train_ends`` and ``val_ends`` are the last rows of the windows of each part, int64,
    ascending. ``train_rows`` is the boolean [N] mask of the rows that training windows cover:
    the rows that scaler statistics may be taken from.
    """

    train_ends: NDArray[np.int64]
    val_ends: NDArray[np.int64]
    train_rows: NDArray[np.bool_]


def split_windows(
    ts: NDArray[np.int64],
    offsets: NDArray[np.int64],
    trainable: NDArray[np.bool_],
    *,
    window: int,
    horizon: int,
    first_valid: int,
    train_fraction: float,
) -> Split:
    """Cut the rows at one moment in time and list the windows on either side.

    One cut for all series, so that no series trains on a day that another validates on. A
    training window and the bars its label looks at end before the cut; a validation window
    starts at or after it: the two parts share no row.

    Parameters
    ----------
    ts : int64 [N], times of the bars, ascending inside each series.
    offsets : int64 [S+1], first row of each series and N at the end.
    trainable : bool [N], rows whose label may be used.
    window, horizon : bars in a window, and bars that a label looks ahead.
    first_valid : rows of a series before this one lack some feature; no window covers them.
    train_fraction : share of the N rows before the cut, over all series.

    Raises
    ------
    SplitError : a part would hold no window; the message says how many rows there are.
    """
    n = len(ts)
    cut = np.sort(ts)[min(int(n * train_fraction), n - 1)]
    train, val = [], []
    train_rows = np.zeros(n, dtype=np.bool_)
    for lo, hi in pairwise(offsets):
        first_end = lo + first_valid + window - 1
        cut_row = lo + np.searchsorted(ts[lo:hi], cut)
        ends = np.arange(first_end, max(first_end, cut_row - horizon))
        train.append(ends[trainable[ends]])
        if len(ends):
            train_rows[lo + first_valid : cut_row - horizon] = True
        first_val = max(first_end, cut_row + window - 1)
        ends = np.arange(first_val, max(first_val, hi))
        val.append(ends[trainable[ends]])
    parts = Split(np.concatenate(train), np.concatenate(val), train_rows)
    for name, ends in (("training", parts.train_ends), ("validation", parts.val_ends)):
        if not len(ends):
            raise SplitError(
                f"no {name} window: {n} bars, the first {first_valid} of each series lack a "
                f"feature, window {window}, horizon {horizon}, train_fraction {train_fraction}; "
                "give more bars, a shorter window, or looser label thresholds"
            )
    return parts
