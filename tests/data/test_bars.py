"""Bars from real files: every accepted form gives the same bars, every defect names its row."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.bar_files import HEADER, ROWS, write
from tfa_perf.data import Bars, BarsError, load_bars, synthetic_bars

TIMES_NS = np.array(
    ["2024-02-02T14:30", "2024-02-02T14:31", "2024-02-02T14:32", "2024-02-02T14:33"], "M8[ns]"
).astype(np.int64)


def assert_same(a: Bars, b: Bars) -> None:
    for name in ("ts", "open", "high", "low", "close", "volume", "offsets"):
        x, y = getattr(a, name), getattr(b, name)
        assert x.dtype == y.dtype and x.flags.c_contiguous and x.flags.writeable, name
        np.testing.assert_array_equal(x, y, err_msg=name)
    assert a.symbols == b.symbols


@pytest.fixture
def expected() -> Bars:
    return Bars(
        ts=TIMES_NS,
        open=np.array([10, 10.5, 10.5, 11.75]),
        high=np.array([11, 10.5, 12, 12.0]),
        low=np.array([9, 10.5, 10.25, 11]),
        close=np.array([10.5, 10.5, 11.75, 11.5]),
        volume=np.array([100, 0, 250, 300.0]),
        symbols=("",),
        offsets=np.array([0, 4]),
    )


def test_csv_and_gzip(tmp_path: Path, expected: Bars) -> None:
    path = write(tmp_path, HEADER, *ROWS)
    assert_same(load_bars(path), expected)
    assert_same(load_bars(str(path)), expected)
    zipped = tmp_path / "bars.csv.gz"
    zipped.write_bytes(gzip.compress(path.read_bytes()))
    assert_same(load_bars(zipped), expected)


@pytest.mark.parametrize(("unit", "factor"), [("s", 10**9), ("ms", 10**6), ("us", 1000), ("ns", 1)])
@pytest.mark.parametrize("suffix", ["", ".0"])
def test_epoch_units(tmp_path: Path, expected: Bars, unit: str, factor: int, suffix: str) -> None:
    rows = [
        f"{t // factor}{suffix},{row.split(',', 1)[1]}"
        for t, row in zip(TIMES_NS.tolist(), ROWS, strict=True)
    ]
    assert_same(load_bars(write(tmp_path, HEADER, *rows)), expected)
    frame = pl.read_csv(write(tmp_path, HEADER, *rows))
    frame.write_parquet(tmp_path / "bars.parquet")
    assert_same(load_bars(tmp_path / "bars.parquet"), expected)


@pytest.mark.parametrize(
    "times",
    [
        ["2024-02-02 14:30", "2024-02-02 14:31", "2024-02-02 14:32", "2024-02-02 14:33"],
        [f"2024-02-02T14:3{i}:00+00:00" for i in range(4)],
        [f"2024-02-02T09:3{i}:00-05:00" for i in range(4)],
        [f"2024-02-02 14:3{i}:00.000000000" for i in range(4)],
    ],
)
def test_iso_forms(tmp_path: Path, expected: Bars, times: list[str]) -> None:
    rows = [f"{t},{row.split(',', 1)[1]}" for t, row in zip(times, ROWS, strict=True)]
    assert_same(load_bars(write(tmp_path, HEADER, *rows)), expected)


@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_parquet_datetimes(tmp_path: Path, expected: Bars, unit: Any, zone: str | None) -> None:
    columns = {name: getattr(expected, name) for name in ("open", "high", "low", "close", "volume")}
    ts = pl.Series(TIMES_NS).cast(pl.Datetime("ns", "UTC"))
    ts = ts.dt.convert_time_zone(zone) if zone else ts.dt.replace_time_zone(None)
    frame = pl.DataFrame({"Timestamp": ts.dt.cast_time_unit(unit), **columns})
    frame.write_parquet(tmp_path / "bars.pq")
    assert_same(load_bars(tmp_path / "bars.pq"), expected)


def test_dates(tmp_path: Path) -> None:
    rows = [f"2024-02-0{i},1,1,1,1,1" for i in (1, 2)]
    days = np.array(["2024-02-01", "2024-02-02"], "M8[ns]").astype(np.int64)
    path = write(tmp_path, HEADER, *rows)
    np.testing.assert_array_equal(load_bars(path).ts, days)
    pl.read_csv(path, try_parse_dates=True).write_parquet(tmp_path / "b.parquet")
    assert pl.read_parquet_schema(tmp_path / "b.parquet")["ts"] == pl.Date
    np.testing.assert_array_equal(load_bars(tmp_path / "b.parquet").ts, days)


def test_columns_in_any_case_and_order_with_extras(tmp_path: Path, expected: Bars) -> None:
    rows = [",".join(["x", *row.split(",")[::-1], ""]) for row in ROWS]
    path = write(tmp_path, "note, Volume,CLOSE,low,High,Open ,TimeStamp,Adj Close", *rows)
    assert_same(load_bars(path), expected)


def test_decimal_columns_of_parquet(tmp_path: Path, expected: Bars) -> None:
    frame = pl.read_csv(write(tmp_path, HEADER, *ROWS), try_parse_dates=True)
    prices = pl.col("open", "high", "low", "close").cast(pl.Decimal(10, 2))
    frame.with_columns(prices, pl.col("volume").cast(pl.UInt32)).write_parquet(tmp_path / "b.pq")
    assert_same(load_bars(tmp_path / "b.pq"), expected)


def test_spaces_quotes_crlf_bom_and_blank_ends(tmp_path: Path, expected: Bars) -> None:
    rows = [", ".join(f"{cell} " for cell in row.split(",")) for row in ROWS]
    assert_same(load_bars(write(tmp_path, HEADER, *rows)), expected)
    rows = [",".join(f'"{cell}"' for cell in row.split(",")) for row in ROWS]
    assert_same(load_bars(write(tmp_path, HEADER, *rows)), expected)
    path = tmp_path / "crlf.csv"
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join([HEADER, *ROWS, "", "", ""]).encode())
    assert_same(load_bars(path), expected)


def test_the_first_of_several_time_columns_is_read(tmp_path: Path, expected: Bars) -> None:
    rows = [f"17068{i},{row},20240202" for i, row in enumerate(ROWS)]
    path = write(tmp_path, "ts_nyt_epoch,ts,open,high,low,close,volume,timestamp", *rows)
    assert_same(load_bars(path), expected)


def test_symbols(tmp_path: Path) -> None:
    rows = [f"{row},{s}" for s in ("B", "A", "TRUE") for row in ROWS[: len(s)]]
    path = write(tmp_path, HEADER + ",symbol", *rows)
    bars = load_bars(path)
    assert bars.symbols == ("B", "A", "TRUE")
    assert bars.offsets.tolist() == [0, 1, 2, 6]
    categorical = pl.read_csv(path).with_columns(pl.col("symbol").cast(pl.Categorical))
    categorical.write_parquet(tmp_path / "b.parquet")
    assert_same(load_bars(tmp_path / "b.parquet"), bars)


def test_sample() -> None:
    bars = load_bars("sample")
    assert len(bars) == 5031 and bars.symbols == ("",)
    assert bars.close[0] == 1228.099976 and bars.volume[-1] == 3442870000
    assert str(bars.ts[[0, -1]].astype("M8[ns]").astype("M8[D]")) == "['1999-01-04' '2018-12-31']"
    assert repr(bars).startswith("Bars(5,031 rows, 1 series, 1999-01-04")


def test_synthetic_source() -> None:
    assert_same(load_bars("synthetic:500:7"), synthetic_bars(500, 7))
    assert_same(load_bars("synthetic:500"), synthetic_bars(500, 0))


@pytest.mark.parametrize(
    "source", ["synthetic:", "synthetic:x", "synthetic:0", "synthetic:9:-1", "synthetic:1:2:3"]
)
def test_synthetic_source_errors(source: str) -> None:
    with pytest.raises(BarsError, match=r"write synthetic:ROWS or synthetic:ROWS:SEED"):
        load_bars(source)


# Each case replaces the third bar, which is line 4 of a CSV file and row 3 of a Parquet file.
BAD_CELLS = {
    "close": {
        "abc": r"column 'close' is 'abc', not a number; write",
        "": r"column 'close' is empty; fill in",
        "nan": r"column 'close' is nan; write a finite number",
        "-inf": r"column 'close' is -inf; write a finite number",
        "1e400": r"column 'close' is inf; write a finite number",
        "0": r"column 'close' is 0\.0; prices are positive: drop",
        "-3": r"column 'close' is -3\.0; prices are positive: drop",
    },
    "volume": {
        "-1": r"column 'volume' is -1\.0; write 0 or more",
        '"1,000"': r"column 'volume' is '1,000', not a number; write .* no thousands separator",
    },
    "high": {"10.2": r"column 'high' is 10\.2, below low 10\.25; swap"},
    "ts": {
        "": r"column 'ts' is empty; fill in",
        "02/02/2024": r"column 'ts' is '02/02/2024'; write ISO 8601",
        "2024-02-30": r"column 'ts' is '2024-02-30'; write ISO 8601",
        "9999-01-01T00:00:00Z": r"column 'ts' is '9999.*'; write ISO 8601 of 1700-2199",
        "2024-02-02T14:32:00": r"column 'ts' is '2024-02-02T14:32:00'; write ISO 8601",
        "1706884320": r"column 'ts' is '1706884320'; write ISO 8601",
        "2024-02-02T14:31:00Z": r"column 'ts' repeats the row before; keep one bar per time",
        "2024-02-02T14:30:59Z": r"column 'ts' goes back in time; sort the file by symbol, then ts",
    },
    "symbol": {"": r"column 'symbol' is empty; name", "B": r"symbol 'A' comes back .*; sort the"},
}
CASES = [(c, cell, text) for c, cells in BAD_CELLS.items() for cell, text in cells.items()]


@pytest.mark.parametrize(("column", "cell", "message"), CASES)
def test_a_bad_cell_names_its_row(tmp_path: Path, column: str, cell: str, message: str) -> None:
    names = [*HEADER.split(","), "symbol"]
    rows = [f"{row},A".split(",") for row in ROWS]
    rows[2][names.index(column)] = cell
    lines = [",".join(names), *(",".join(row) for row in rows)]
    # The symbol that comes back is on the row after.
    late = column == "symbol" and cell == "B"
    with pytest.raises(BarsError, match=rf"bars\.csv: row {4 + late}: {message}") as caught:
        load_bars(write(tmp_path, *lines))
    assert "\n" not in str(caught.value)

    frame = pl.read_csv(write(tmp_path, *lines), infer_schema=False)
    frame.write_parquet(tmp_path / "bars.parquet")
    with pytest.raises(BarsError, match=rf"bars\.parquet: row {3 + late}: {message}"):
        load_bars(tmp_path / "bars.parquet")


def test_rows_are_counted_as_an_editor_counts_lines(tmp_path: Path) -> None:
    note = '"two\nlines, quoted"'
    rows = [f"{row},{note}" for row in ROWS]
    rows[2] = rows[2].replace("11.75", "x")
    with pytest.raises(BarsError, match=r"row 8: column 'close' is 'x'"):
        load_bars(write(tmp_path, "", "", f"{HEADER},note", *rows))
    with pytest.raises(BarsError, match=r"row 3: column 'ts' is empty"):
        load_bars(write(tmp_path, HEADER, ROWS[0], "", *ROWS[1:]))


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (["20240202", "20240203"], r"row 2: column 'ts' is 20240202: .*ambiguous; write ISO"),
        (["202402020930", "202402020931"], r"row 2: .* ambiguous"),
        (["20240202093000", "20240202093100"], r"row 2: .* ambiguous"),
        (["0", "60"], r"row 2: .* ambiguous"),
        (["-5", "60"], r"row 2: .* ambiguous"),
        (["1706864580", "1706864640000"], r"row 3: .* first row is in s .* one unit"),
        (["1706864580", "17068646.5"], r"row 3: column 'ts' is '17068646.5', neither"),
        (["1706864580", "2024-02-02"], r"row 3: column 'ts' is '2024-02-02', neither"),
        (["99999999999999999999", "1"], r"row 2: column 'ts' is '9+', neither"),
        (["Feb 2 2024", "Feb 3 2024"], r"row 2: column 'ts' is 'Feb 2 2024', neither"),
    ],
)
def test_times_of_no_clear_unit(tmp_path: Path, times: list[str], message: str) -> None:
    with pytest.raises(BarsError, match=message):
        load_bars(write(tmp_path, HEADER, *(f"{t},1,1,1,1,1" for t in times)))


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pl.Series("ts", [1.7068e9, 1.7068e9 + 0.5]), r"row 2: column 'ts' is 1706.*; write whole"),
        (pl.Series("ts", [1.7068e9, float("nan")]), r"row 2: column 'ts' is nan; write whole"),
        (pl.Series("ts", [True, False]), r"row 1: column 'ts' is of type Boolean; write a datet"),
        (pl.Series("ts", [2**63, 2**63 + 1], dtype=pl.UInt64), r"row 1: .*ambiguous"),
        (pl.Series("ts", [0, 2**62]).cast(pl.Datetime("us")), r"row 2: .* outside 1678-2261"),
        (pl.Series("ts", [0, 10**6], dtype=pl.Int32).cast(pl.Date), r"row 2: .*outside 1678-2261"),
        (pl.Series("close", [True, False]), r"row 1: column 'close' is of type Boolean; write num"),
        (pl.Series("close", [[1.0], [2.0]]), r"row 1: column 'close' is of type List"),
        (pl.Series("symbol", [["A"], ["A"]]), r"row 1: column 'symbol' is of type List.*text"),
        (pl.Series("symbol", [b"\xff", b"\xff"]), r"row 1: column 'symbol' is of type Binary"),
    ],
)
def test_parquet_of_wrong_types(tmp_path: Path, column: pl.Series, message: str) -> None:
    frame = pl.DataFrame({name: [1706864580, 1706864640] for name in HEADER.split(",")})
    frame.with_columns(column).write_parquet(tmp_path / "b.parquet")
    with pytest.raises(BarsError, match=message):
        load_bars(tmp_path / "b.parquet")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            "time,open,high,low,close,volume",
            r"missing a time column \(ts, .*; found 'time', 'o",
        ),
        (
            "ts,open,high,low,price,vol",
            r"missing close, volume; found 'ts', 'open', 'high', 'low', 'price'",
        ),
        (HEADER.replace(",", ";"), r"missing .*; found 'ts;open;.*separate them by commas"),
        ("ts,open,high,low,close,volume,Close", r"two columns are called 'close'; remove"),
        ("ts,open,high,low,close,volume,close", r"two columns are called 'close'; remove"),
    ],
)
def test_headers(tmp_path: Path, header: str, message: str) -> None:
    with pytest.raises(BarsError, match=message):
        load_bars(write(tmp_path, header, *(f"{row},1" for row in ROWS)))


@given(start=st.integers(0, 12), stop=st.integers(0, 12))
def test_slice_keeps_series(start: int, stop: int) -> None:
    bars = synthetic_bars(10, symbols=3)
    owner = np.repeat(bars.symbols, np.diff(bars.offsets))
    part = bars.slice(start, stop)
    np.testing.assert_array_equal(part.close, bars.close[start:stop])
    np.testing.assert_array_equal(
        np.repeat(np.array(part.symbols, "U4"), np.diff(part.offsets)), owner[start:stop]
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("close", np.zeros(4, np.float32)),
        ("close", np.zeros(3)),
        ("close", np.zeros(8)[::2]),
        ("close", [1.0, 2.0, 3.0, 4.0]),
        ("offsets", np.array([0, 3])),
        ("offsets", np.array([0, 5, 4])),
        ("offsets", np.array([], np.int64)),
    ],
)
def test_arrays_that_do_not_fit_are_refused(expected: Bars, name: str, value: object) -> None:
    fields = {key: getattr(expected, key) for key in Bars.__dataclass_fields__}
    with pytest.raises(BarsError, match=rf"bars\.{name}"):
        Bars(**{**fields, name: value})
