"""Reading columns and series boundaries out of whatever holds the bars."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt


def lookup(bars: object, name: str) -> Any:
    """A column of a mapping, a pandas or polars frame, or an object's attribute; None if absent."""
    if isinstance(bars, Mapping):
        return bars.get(name)
    columns = getattr(bars, "columns", None)
    if columns is not None and hasattr(bars, "__getitem__"):
        return bars[name] if name in columns else None
    return getattr(bars, name, None)


def read_columns(bars: object, names: Iterable[str]) -> dict[str, npt.NDArray[Any]]:
    """The named columns as 1-D numeric arrays of one length, not copied where possible."""
    columns: dict[str, npt.NDArray[Any]] = {}
    for name in names:
        given = lookup(bars, name)
        if given is None:
            raise ValueError(f"bars has no column {name!r}, which the spec uses")
        array = np.asarray(given)
        if array.ndim != 1:
            raise ValueError(f"bars column {name!r} must be 1-D, got shape {array.shape}")
        if array.dtype.kind not in "fiu":
            raise TypeError(
                f"bars column {name!r} must be numeric, got dtype {array.dtype}; "
                "convert it to float64"
            )
        columns[name] = array
    lengths = {name: array.size for name, array in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"bars columns differ in length: {lengths}")
    return columns


def series_offsets(bars: object, rows: int) -> npt.NDArray[np.int64]:
    """Series s is rows offsets[s]..offsets[s+1]: from an attribute offsets, else from symbol."""
    is_table = isinstance(bars, Mapping) or hasattr(bars, "columns")
    offsets = None if is_table else getattr(bars, "offsets", None)
    if offsets is not None:
        return _checked_offsets(offsets, rows)
    symbol = lookup(bars, "symbol")
    if symbol is None:
        return np.array([0, rows], np.int64)
    return _runs(np.asarray(symbol), rows)


def _checked_offsets(given: Any, rows: int) -> npt.NDArray[np.int64]:
    offsets = np.asarray(given)
    if offsets.ndim != 1 or offsets.size == 0 or offsets.dtype.kind not in "iu":
        raise ValueError(
            "bars.offsets must be a 1-D integer array of series boundaries, got shape "
            f"{offsets.shape}, dtype {offsets.dtype}"
        )
    checked = np.array(offsets, dtype=np.int64)
    if checked[0] != 0 or checked[-1] != rows or (np.diff(checked) < 0).any():
        raise ValueError(f"bars.offsets must rise from 0 to the number of rows, {rows}")
    return checked


def _runs(symbol: npt.NDArray[Any], rows: int) -> npt.NDArray[np.int64]:
    if symbol.shape != (rows,):
        raise ValueError(f"bars column 'symbol' has shape {symbol.shape}, needs ({rows},)")
    if rows == 0:
        return np.zeros(1, np.int64)
    try:
        changes = np.asarray(symbol[1:] != symbol[:-1], dtype=bool)
        starts = np.concatenate(([0], np.flatnonzero(changes) + 1)).astype(np.int64)
        labels = symbol[starts].tolist()
        missing = any(label is None or label != label for label in labels)
    except TypeError:  # a missing-value marker whose comparison has no truth value
        missing = True
    if missing:
        raise ValueError("bars column 'symbol' has missing values; give every row a symbol")
    if len(set(labels)) != len(labels):
        raise ValueError(
            "bars column 'symbol' comes back after another symbol; sort the bars by (symbol, ts)"
        )
    return np.concatenate((starts, [rows])).astype(np.int64)
