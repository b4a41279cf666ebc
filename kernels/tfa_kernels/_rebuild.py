"""Bars cut down to some of their rows, for building features again from less."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tfa_kernels._bars import series_offsets

_COLUMNS = ("ts", "open", "high", "low", "close", "volume", "symbol")


def as_table(bars: Any) -> tuple[Any, npt.NDArray[np.int64]]:
    """A frame as it is, anything else as a dict of arrays; and where its series begin and end."""
    if not isinstance(bars, Mapping) and hasattr(bars, "columns"):
        return bars, series_offsets(bars, len(bars))
    if isinstance(bars, Mapping):
        table = {name: np.asarray(column) for name, column in bars.items()}
    else:
        given = {name: getattr(bars, name, None) for name in _COLUMNS}
        table = {name: np.asarray(col) for name, col in given.items() if col is not None}
    lengths = {name: column.shape[:1] for name, column in table.items()}
    if len(set(lengths.values())) != 1 or () in lengths.values():
        raise ValueError(f"bars needs columns of one length, got shapes {lengths}")
    rows = len(next(iter(table.values())))
    offsets = series_offsets(bars, rows)
    if "symbol" not in table and offsets.size > 2:
        table["symbol"] = np.repeat(np.arange(offsets.size - 1), np.diff(offsets))
    return table, offsets


def take(table: Any, start: int, stop: int) -> Any:
    """A copy of rows start..stop, of the same kind."""
    if isinstance(table, Mapping):
        return {name: column[start:stop].copy() for name, column in table.items()}
    if hasattr(table, "iloc"):
        return table.iloc[start:stop].copy()
    return table[start:stop].clone()


def read_matrix(result: Any, rows: int) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    """Values [N, F] and names of whatever a feature function returned."""
    names = getattr(result, "columns", None)
    if names is None:
        names = getattr(result, "names", None)
    values = np.asarray(result.values if hasattr(result, "spec_hash") else result)
    if values.ndim != 2 or values.dtype.kind not in "fiub":
        raise ValueError(
            f"build must return numbers as [N, F], got shape {values.shape}, dtype {values.dtype}"
        )
    if len(values) != rows:
        raise ValueError(
            f"build returned {len(values)} rows for {rows} bars; it must return one for each "
            "(NaN where a feature has no value yet)"
        )
    if names is None:
        names = range(values.shape[1])
    return values, tuple(map(str, names))
