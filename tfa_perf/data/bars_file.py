"""Reading and checking a file of bars. Nothing that fails a check leaves this module."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from tfa_perf.data.bars import Bars, BarsError
from tfa_perf.data.packed import check_unpacked_size
from tfa_perf.data.parquet import ParquetError, read_parquet
from tfa_perf.data.timestamps import RowError, first_true, shown, timestamps

_VALUES = ("open", "high", "low", "close", "volume")
_TS_NAMES = ("ts", "timestamp", "ts_nyt_epoch")
_FILE_TYPES = (".csv", ".csv.gz", ".parquet", ".pq")
_UNREADABLE = (
    *(pl.exceptions.PolarsError, pl.exceptions.PanicException, ParquetError),
    *(OSError, EOFError, zlib.error),
)


def read_bars(path: Path, *, apart: bool = True) -> Bars:
    """Bars from a CSV (`.csv`, `.csv.gz`) or Parquet (`.parquet`, `.pq`) file.

    Columns, in any case and order: `open high low close volume`; a time column, the first of
    `ts`, `timestamp`, `ts_nyt_epoch` that is there; optionally `symbol`. Others are not read.

    Times are ISO 8601 text, a Parquet date or datetime, or whole epoch numbers. Those without a
    zone are taken as UTC. The unit of an epoch number follows from its size: s, ms, us or ns,
    whichever puts the first row between 1973-03-03 and 2200; anything else is refused.

    With a `symbol` column the rows of a symbol stand together; time rises strictly within each.
    Prices are positive and volume is not negative. High below low is refused; open or close
    outside [low, high] is not, because vendors round and adjust the four prices separately.

    ``apart`` has Parquet read by a process of its own, see `read_parquet`, which takes some tenths
    of a second; without it a damaged file may end this process.

    Raises
    ------
    BarsError : `path: row N: what is wrong; the fix`. In a CSV file N is the line, the header being
        line 1; in a Parquet file it is the row, counted from 1.
    """
    is_csv = _is_csv(path)

    def row_error(row: int, problem: str) -> BarsError:
        return BarsError(f"{path}: row {_csv_line(path, row) if is_csv else row + 1}: {problem}")

    with _reading(path, is_csv):
        frame = _read_csv(path) if is_csv else _read_parquet(path, apart)
    if frame.height == 0:
        raise BarsError(f"{path}: holds no rows; write at least one bar")

    symbols, offsets = _series(frame, row_error)
    ts = timestamps(frame.to_series(0), row_error)
    _check_order(ts, offsets, frame.columns, row_error)
    values = {name: _numbers(frame[name], row_error) for name in _VALUES}
    _check_values(values, row_error)
    return Bars(ts=ts, **values, symbols=symbols, offsets=offsets)


def count_bars(path: Path) -> int:
    """How many bars `read_bars` would return; of a Parquet file only the footer is read.

    Raises
    ------
    BarsError : the file cannot be read; whether its bars can be used is not looked at.
    """
    is_csv = _is_csv(path)
    with _reading(path, is_csv):
        if is_csv:
            return _read_csv(path).height
        return int(pl.scan_parquet(path, glob=False).select(pl.len()).collect().item())


def _is_csv(path: Path) -> bool:
    if not path.name.lower().endswith(_FILE_TYPES):
        raise BarsError(f"{path}: unknown file type; give one of {', '.join(_FILE_TYPES)}")
    if not path.is_file():
        raise BarsError(f"{path}: no such file; give a path, 'sample' or 'synthetic:ROWS'")
    return path.name.lower().endswith((".csv", ".csv.gz"))


@contextmanager
def _reading(path: Path, is_csv: bool) -> Iterator[None]:
    """What goes wrong inside is a BarsError that names the file and the fix."""
    try:
        yield
    except BarsError:
        raise
    except _UNREADABLE as error:
        kind = "CSV" if is_csv else "Parquet"
        reason = str(error).strip().split("\n")[0]
        raise BarsError(
            f"{path}: cannot be read as {kind}: {reason}. "
            f"{_ragged_line(path) if is_csv else 'Write the file again'}"
        ) from error


def _columns(path: Path, found: Sequence[str]) -> list[pl.Expr]:
    """Expressions for the time column, the values and the symbol if any, in lower case."""
    by_name: dict[str, str] = {}
    for column in found:
        # polars renames the second of two equal CSV headers.
        name = column.split("_duplicated_")[0].strip().lower()
        if name in by_name and name in (*_VALUES, *_TS_NAMES, "symbol"):
            raise BarsError(f"{path}: two columns are called {name!r}; remove or rename one")
        by_name[name] = column
    ts = next((name for name in _TS_NAMES if name in by_name), None)
    missing = [name for name in _VALUES if name not in by_name]
    if ts is None:
        missing.insert(0, f"a time column ({', '.join(_TS_NAMES)})")
    if ts is None or missing:
        raise BarsError(
            f"{path}: missing {', '.join(missing)}; found {', '.join(map(shown, found[:20]))}. "
            "Rename the columns, and separate them by commas in a CSV file"
        )
    wanted = [ts, *_VALUES, *(["symbol"] if "symbol" in by_name else [])]
    return [pl.col(by_name[name]).alias(name) for name in wanted]


def _read_csv(path: Path) -> pl.DataFrame:
    check_unpacked_size(path)
    found = pl.scan_csv(path, infer_schema=False, glob=False).collect_schema().names()
    columns = _columns(path, found)
    numeric = {name: pl.Float64 for name in found if name.strip().lower() in _VALUES}
    try:
        scan = pl.scan_csv(path, infer_schema=False, schema_overrides=numeric, glob=False)
        frame = scan.select(columns).collect()
    except pl.exceptions.ComputeError:
        # A cell is no plain number: read text, so that the cell can be found or trimmed.
        frame = pl.scan_csv(path, infer_schema=False, glob=False).select(columns).collect()
    filled = (~frame.select(pl.all_horizontal(pl.all().is_null())).to_series()).arg_true()
    # Blank lines at the end of a file are no rows.
    return frame.head(filled[-1] + 1 if len(filled) else 0)


def _read_parquet(path: Path, apart: bool) -> pl.DataFrame:
    if not apart:
        scan = pl.scan_parquet(path, glob=False)
        return scan.select(_columns(path, scan.collect_schema().names())).collect()
    names, frame = read_parquet(path, {*_VALUES, *_TS_NAMES, "symbol"})
    return frame.select(_columns(path, names))


def _series(
    frame: pl.DataFrame, row_error: RowError
) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    if "symbol" not in frame.columns:
        return ("",), np.array([0, frame.height], np.int64)
    symbol = frame["symbol"]
    if symbol.dtype.is_nested() or symbol.dtype == pl.Binary:
        raise row_error(0, f"column 'symbol' is of type {symbol.dtype}; write text")
    symbol = symbol.cast(pl.String)
    if symbol.null_count():
        raise row_error(first_true(symbol.is_null()), "column 'symbol' is empty; name the series")
    starts = (symbol != symbol.shift(1)).fill_null(True).arg_true()
    names = symbol.gather(starts)
    repeated = ~names.is_first_distinct()
    if repeated.any():
        i = first_true(repeated)
        raise row_error(
            starts[i],
            f"symbol {shown(names[i])} comes back after other symbols; "
            "sort the file by symbol, then ts",
        )
    return tuple(names), np.append(starts.to_numpy(), frame.height).astype(np.int64)


def _check_order(
    ts: npt.NDArray[np.int64],
    offsets: npt.NDArray[np.int64],
    columns: list[str],
    row_error: RowError,
) -> None:
    stays = ts[1:] <= ts[:-1]
    stays[offsets[1:-1] - 1] = False
    if not stays.any():
        return
    row = int(stays.argmax()) + 1
    name = columns[0]
    by = (
        f"symbol, then {name}"
        if "symbol" in columns
        else f"{name}, or add a symbol column if it holds several"
    )
    if ts[row] == ts[row - 1]:
        raise row_error(
            row, f"column {name!r} repeats the row before; keep one bar per time (sort by {by})"
        )
    raise row_error(row, f"column {name!r} goes back in time; sort the file by {by}")


def _numbers(column: pl.Series, row_error: RowError) -> npt.NDArray[np.float64]:
    name, dtype = column.name, column.dtype
    number = column
    if dtype == pl.String:
        column = column.str.strip_chars()
        number = column.cast(pl.Float64, strict=False)
        wrong = number.is_null() & column.is_not_null() & (column != "")
        if wrong.any():
            i = first_true(wrong)
            raise row_error(
                i,
                f"column {name!r} is {shown(column[i])}, not a number; write digits with a "
                "decimal point and no thousands separator",
            )
    elif not dtype.is_numeric():
        raise row_error(0, f"column {name!r} is of type {dtype}; write numbers")
    if number.null_count():
        raise row_error(
            first_true(number.is_null()),
            f"column {name!r} is empty; fill in the number or drop the row",
        )
    values = number.cast(pl.Float64).to_numpy(writable=True)
    finite = np.isfinite(values)
    if not finite.all():
        i = int(finite.argmin())
        raise row_error(i, f"column {name!r} is {values[i]}; write a finite number or drop the row")
    return values


def _check_values(values: dict[str, npt.NDArray[np.float64]], row_error: RowError) -> None:
    for name in _VALUES[:4]:
        if values[name].min() <= 0:
            i = int((values[name] <= 0).argmax())
            raise row_error(
                i,
                f"column {name!r} is {values[name][i]}; prices are positive: drop the row, or "
                "shift a back-adjusted series above zero",
            )
    if values["volume"].min() < 0:
        i = int((values["volume"] < 0).argmax())
        raise row_error(i, f"column 'volume' is {values['volume'][i]}; write 0 or more")
    crossed = values["high"] < values["low"]
    if crossed.any():
        i = int(crossed.argmax())
        raise row_error(
            i,
            f"column 'high' is {values['high'][i]}, below low {values['low'][i]}; swap them or "
            "drop the row",
        )


def _records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Header and rows of a CSV file, each with the line it starts on."""
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    opened = gzip.open if zipped else open
    with opened(path, "rt", encoding="utf-8", errors="replace", newline="") as text:
        reader = csv.reader(text)
        line, header_seen = 1, False
        for record in reader:
            # Blank lines before the header are skipped; later ones are rows without values.
            if record or header_seen:
                header_seen = True
                yield line, record
            line = reader.line_num + 1


def _csv_line(path: Path, row: int) -> int:
    """Line of a 0-based data row. Quoted line breaks make it differ from `row + 2`."""
    try:
        return next(islice(_records(path), row + 1, None))[0]
    except (csv.Error, StopIteration, OSError, EOFError, zlib.error):
        return row + 2


def _ragged_line(path: Path) -> str:
    """The fix for a CSV file that polars cannot split into columns."""
    try:
        records = _records(path)
        width = len(next(records)[1])
        for line, record in records:
            if len(record) > width:
                return f"Line {line} has {len(record)} fields, the header {width}; make them equal"
    except (csv.Error, StopIteration, OSError, EOFError, zlib.error):
        pass
    return "Write the file again, as UTF-8 text with a header line"
