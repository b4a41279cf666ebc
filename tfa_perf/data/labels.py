"""Labels that look `horizon` bars ahead, and which rows may be trained on."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class LabelRule(NamedTuple):
    """What labels were made with, see `forward_return_labels`."""

    horizon: int
    min_volume: float | None = None
    min_move: float | None = None


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels of N bars.

    Attributes
    ----------
    y : float32 [N], 1 where `forward_return` is above 0, else 0 (also where undefined).
    forward_return : float64 [N], ln(close[t+horizon] / close[t]); NaN where undefined.
    trainable : bool [N], whether row t has a label to train on.
    """

    y: npt.NDArray[np.float32]
    forward_return: npt.NDArray[np.float64]
    trainable: npt.NDArray[np.bool_]


def forward_return_labels(
    close: npt.NDArray[np.float64],
    horizon: int,
    *,
    offsets: npt.NDArray[np.int64] | None = None,
    volume: npt.NDArray[np.float64] | None = None,
    min_volume: float | None = None,
    min_move: float | None = None,
) -> Labels:
    """Direction of the log return over the next `horizon` bars of the same series.

    The last `horizon` rows of each series have no label. Overnight gaps count as one bar.

    Parameters
    ----------
    close : float64 [N], positive.
    horizon : bars ahead, at least 1.
    offsets : int64 [S+1], series boundaries as in `Bars.offsets`; one series where absent.
    volume : float64 [N], needed by `min_volume`.
    min_volume : rows of a lower volume are not trainable.
    min_move : rows whose absolute forward return is lower are not trainable.

    Raises
    ------
    ValueError : an argument of the wrong shape or range.
    """
    close = np.asarray(close, np.float64)
    if close.ndim != 1:
        raise ValueError(f"close must be 1-D, got shape {close.shape}")
    if not (np.isfinite(close).all() and (close > 0).all()):
        row = int((~(np.isfinite(close) & (close > 0))).argmax())
        raise ValueError(f"close[{row}] is {close[row]}; prices must be positive and finite")
    try:
        horizon = operator.index(horizon)
    except TypeError:
        raise ValueError(f"horizon must be a whole number of bars, got {horizon!r}") from None
    if horizon < 1:
        raise ValueError(f"horizon must be at least 1 bar, got {horizon}")
    n = close.size
    edges = np.array([0, n]) if offsets is None else np.asarray(offsets)
    if edges.ndim != 1 or edges.size < 2 or edges.dtype.kind not in "iu":
        raise ValueError(f"offsets must be a 1-D integer array of two or more, got {edges!r}")
    if edges[0] != 0 or edges[-1] != n or np.any(edges[1:] < edges[:-1]):
        raise ValueError(f"offsets must rise from 0 to len(close) = {n}, got {edges!r}")

    forward_return = np.full(n, np.nan)
    ahead = min(horizon, n)
    forward_return[: n - ahead] = np.log(close[ahead:] / close[: n - ahead])
    for start, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        forward_return[max(start, stop - horizon) : stop] = np.nan

    trainable = np.isfinite(forward_return)
    if min_volume is not None:
        _check_threshold("min_volume", min_volume)
        if volume is None or np.shape(volume) != close.shape:
            raise ValueError(f"min_volume needs volume of shape {close.shape}: pass bars.volume")
        trainable &= np.asarray(volume) >= min_volume
    if min_move is not None:
        _check_threshold("min_move", min_move)
        trainable &= np.abs(forward_return) >= min_move
    return Labels(
        y=(forward_return > 0).astype(np.float32),
        forward_return=forward_return,
        trainable=trainable,
    )


def _check_threshold(name: str, value: float) -> None:
    if not 0 <= value < np.inf:
        raise ValueError(f"{name} must be a finite number, 0 or more, got {value!r}")
