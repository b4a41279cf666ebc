"""Times of bars in any of the forms a file may hold, as nanoseconds since 1970 UTC."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import polars as pl

from tfa_perf.data.bars import BarsError

_ISO_DATE = r"^(1[7-9]|20|21)\d\d-\d\d-\d\d"
_DAY_NS = 86_400 * 10**9
# Half-open ranges of epoch numbers from 1973-03-03 to 2200-01-01, per unit: they do not overlap.
_EPOCH_UNITS = {
    "s": (10**8, 7_258_118_400, 10**9),
    "ms": (10**11, 7_258_118_400_000, 10**6),
    "us": (10**14, 7_258_118_400_000_000, 10**3),
    "ns": (10**17, 7_258_118_400_000_000_000, 1),
}
# 2024-02-02 09:30 written as 202402020930 would pass for milliseconds of 1976.
_DATE_AS_NUMBER = (190_000_000_000, 220_000_000_000)

# Builds the error for a 0-based row of the source.
RowError = Callable[[int, str], BarsError]


def timestamps(column: pl.Series, row_error: RowError) -> npt.NDArray[np.int64]:
    """int64 [N] nanoseconds since 1970 UTC of a time column of any supported type.

    Raises
    ------
    BarsError : as `row_error` builds it, for the first row that is no such time.
    """
    if column.null_count():
        raise row_error(
            first_true(column.is_null()), f"column {column.name!r} is empty; fill in the time"
        )
    if column.dtype == pl.String:
        column = column.str.strip_chars()
        if column.head(1).str.contains(_ISO_DATE).item():
            return _iso(column, row_error)
        whole = column.str.replace(r"\.0*$", "").cast(pl.Int64, strict=False)
        if whole.null_count():
            i = first_true(whole.is_null())
            raise row_error(
                i,
                f"column {column.name!r} is {shown(column[i])}, neither a whole epoch number nor "
                "ISO 8601; write every time alike, as in 2024-02-02T14:30:00Z",
            )
        column = whole
    if isinstance(column.dtype, pl.Datetime):
        unit = {"ms": 10**6, "us": 10**3, "ns": 1}[column.dtype.time_unit]
        return _scaled(column.to_physical().to_numpy(), unit, column.name, row_error)
    if column.dtype == pl.Date:
        return _scaled(
            column.to_physical().cast(pl.Int64).to_numpy(), _DAY_NS, column.name, row_error
        )
    if column.dtype.is_float():
        fractional = column.cast(pl.Int64, strict=False).cast(column.dtype) != column
        if fractional.fill_null(True).any():
            i = first_true(fractional.fill_null(True))
            raise row_error(
                i, f"column {column.name!r} is {column[i]}; write whole epoch numbers or ISO 8601"
            )
    elif not column.dtype.is_integer():
        raise row_error(
            0, f"column {column.name!r} is of type {column.dtype}; write a datetime or ISO 8601"
        )
    whole = column.cast(pl.Int64, strict=False).fill_null(-1)
    return _epochs(whole.to_numpy(), column.name, row_error)


def _iso(text: pl.Series, row_error: RowError) -> npt.NDArray[np.int64]:
    # Parsed only when the years are in range: some versions of polars panic beyond nanoseconds.
    wrong = ~text.str.contains(_ISO_DATE)
    when = pl.Series(dtype=pl.Datetime("ns"))
    if not wrong.any():
        try:
            when = text.str.to_datetime(time_unit="ns", time_zone="UTC", strict=False)
            wrong = when.is_null()
        except pl.exceptions.ComputeError:
            # The first row is in no form that polars knows.
            wrong = pl.Series([True])
    if wrong.any():
        row = first_true(wrong)
        raise row_error(
            row,
            f"column {text.name!r} is {shown(text[row])}; write ISO 8601 of 1700-2199 like the "
            "first row does, as in 2024-02-02T14:30:00Z or 2024-02-02",
        )
    return when.to_physical().to_numpy(writable=True)


def _epochs(number: npt.NDArray[np.int64], name: str, row_error: RowError) -> npt.NDArray[np.int64]:
    first = int(number[0])
    for unit, (low, high, factor) in _EPOCH_UNITS.items():
        if low <= first < high and not _DATE_AS_NUMBER[0] <= first < _DATE_AS_NUMBER[1]:
            outside = (number < low) | (number >= high)
            if outside.any():
                i = int(outside.argmax())
                raise row_error(
                    i,
                    f"column {name!r} is {number[i]}, but the first row is in {unit} since 1970; "
                    "write every time in one unit",
                )
            return number * factor
    raise row_error(
        0,
        f"column {name!r} is {first}: not s, ms, us or ns since 1970 for a time in 1973-2199, so "
        "the unit is ambiguous; write ISO 8601, as in 2024-02-02T14:30:00Z",
    )


def _scaled(
    number: npt.NDArray[np.int64], factor: int, name: str, row_error: RowError
) -> npt.NDArray[np.int64]:
    limit = np.iinfo(np.int64).max // factor
    outside = (number > limit) | (number < -limit)
    if outside.any():
        raise row_error(
            int(outside.argmax()), f"column {name!r} is outside 1678-2261; correct the time"
        )
    return number * factor


def first_true(mask: pl.Series) -> int:
    return int(mask.arg_true()[0])


def shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")
