"""The windows of a table that a loader or a data set may yield, NaNs accounted for."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from tfa_perf.data.plan import WindowPlan, plan_windows, usable_rows
from tfa_perf.data.store import FeatureStore
from tfa_perf.data.table import Table, nan_rows

__all__ = ["NanPolicy", "WindowSet", "checked_int", "window_set"]

NanPolicy = Literal["error", "mask", "drop"]


@dataclass(frozen=True, eq=False)
class WindowSet:
    """A table, the windows of it, and with nan="mask" which of its rows have no NaN."""

    table: Table
    plan: WindowPlan
    unmasked: NDArray[np.bool_] | None


def checked_int(name: str, value: Any, low: int, high: int = sys.maxsize) -> int:
    """``value`` as an int, or a ValueError that names the argument."""
    if (
        isinstance(value, (int, np.integer))
        and not isinstance(value, bool)
        and low <= value <= high
    ):
        return int(value)
    raise ValueError(f"{name}: an integer from {low} to {high} is needed, got {value!r}")


def window_set(
    X: Any,
    y: Any,
    *,
    window: int,
    horizon: int,
    stride: int,
    series: Any,
    valid: Any,
    span: Any,
    embargo: int,
    nan: NanPolicy,
) -> WindowSet:
    """Check the arguments that `WindowLoader` describes and list the windows they allow.

    Raises ValueError or TypeError, naming the argument, and ValueError where no window is left.
    """
    first_valid = 0
    if isinstance(X, FeatureStore):
        if series is None:
            first_valid = X.first_valid
        series = X.offsets if series is None else series
        valid = X.trainable if valid is None else valid
    table = Table.of(X, y)
    rows = len(table)
    window = checked_int("window", window, 1, max(rows, 1))
    horizon = checked_int("horizon", horizon, 0)
    stride = checked_int("stride", stride, 1)
    embargo = checked_int("embargo", embargo, 0)
    if nan not in ("error", "mask", "drop"):
        raise ValueError(f'nan: "error", "mask" or "drop" is needed, got {nan!r}')
    low, high = usable_rows(rows, series, span, embargo, first_valid)
    plan_of = partial(
        plan_windows,
        low,
        high,
        window=window,
        horizon=horizon,
        stride=stride,
        may_end=_valid(valid, rows),
    )
    nans = nan_rows(table, int(low.min()), int(high.max()))
    clean = None if nans is None else ~nans
    labelled = _labelled(table.y)
    if nan == "error":
        plan = plan_of()
        if clean is not None or labelled is not None:
            kept = plan_of(may_label=labelled, may_cover=clean)
            _refuse_nans(len(plan), len(kept), nans, labelled)
    else:
        plan = plan_of(may_label=labelled, may_cover=clean if nan == "drop" else None)
    if not len(plan):
        raise ValueError(
            f"no window: {rows} rows hold none of {window} rows with a label {horizon} rows later "
            "that series, span, embargo, valid and nan allow; give more rows or a shorter window"
        )
    unmasked = None
    if nan == "mask":
        unmasked = np.ones(rows, np.bool_) if clean is None else clean
    return WindowSet(table, plan, unmasked)


def _valid(valid: Any, rows: int) -> NDArray[np.bool_] | None:
    if valid is None:
        return None
    given = valid.numpy(force=True) if isinstance(valid, torch.Tensor) else np.asarray(valid)
    if given.dtype != np.bool_ or given.shape != (rows,):
        raise TypeError(
            f"valid: a bool for each of the {rows} rows is needed, got {given.dtype} {given.shape}"
        )
    return given


def _labelled(y: NDArray[Any] | torch.Tensor) -> NDArray[np.bool_] | None:
    labels = y.numpy(force=True) if isinstance(y, torch.Tensor) else y
    if labels.dtype.kind != "f":
        return None
    nans = np.isnan(labels)
    return ~nans if nans.any() else None


def _refuse_nans(
    count: int, clean: int, nans: NDArray[np.bool_] | None, labelled: NDArray[np.bool_] | None
) -> None:
    if clean == count:
        return
    first = [
        f"the first NaN in {name} is in row {int(np.argmax(rows))}"
        for name, rows in (("X", nans), ("y", None if labelled is None else ~labelled))
        if rows is not None
    ]
    raise ValueError(
        f"nan: {count - clean} of {count} windows have a NaN, in their rows or their label; "
        f'{" and ".join(first)}; nan="drop" leaves such windows out, nan="mask" yields zeros and '
        "a mask, valid or span can leave the rows out"
    )
