"""A small universe of bars in files, and the store that one process makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tfa_kernels import build_features, load_spec
from tfa_perf.data import (
    Bars,
    create_store,
    forward_return_labels,
    load_bars,
    open_store,
    synthetic_bars,
)

PLAIN = {
    "schema_version": "2.0",
    "features": [
        {"name": "close", "op": "IDENT"},
        {"name": "rsi", "op": "RSI", "window": 5},
        {"name": "sma", "op": "SMA", "window": 9},
        {"name": "atr", "op": "ATR", "window": 4},
    ],
}
# JSON has no word for NaN.
SPEC = load_spec({**PLAIN, "alignment_policy": {"emit_from_index": 12, "pad_value": float("nan")}})


def write_bars(file: Path, bars: Bars, symbols: bool = False) -> Path:
    columns = {
        name: getattr(bars, name) for name in ("ts", "open", "high", "low", "close", "volume")
    }
    if symbols:
        columns["symbol"] = np.repeat(bars.symbols, np.diff(bars.offsets))
    frame = pl.DataFrame(columns)
    file.parent.mkdir(parents=True, exist_ok=True)
    frame.write_csv(file) if file.suffix == ".csv" else frame.write_parquet(file)
    return file


def named(bars: Bars, *symbols: str) -> Bars:
    values = {name: getattr(bars, name) for name in Bars.__dataclass_fields__}
    return Bars(**{**values, "symbols": symbols})


def write_universe(folder: Path, sizes: Sequence[int]) -> list[Path]:
    """Files of as many rows; every third one has two symbols, one is CSV."""
    files = []
    for number, rows in enumerate(sizes):
        file = folder / f"S{number:02}.{'csv' if number == 1 else 'parquet'}"
        if number % 3 == 2:
            bars = synthetic_bars(rows, number, symbols=2)
            bars = named(bars, f"A{number}", f"B{number}")
            files.append(write_bars(file, bars, symbols=True))
        else:
            files.append(write_bars(file, synthetic_bars(rows, number)))
    return files


def expected_store(path: Path, files: list[Path], names: list[str], spec=SPEC, **labels):
    """What one process makes file by file, written by the store's own writer."""
    parts = [load_bars(file) for file in sorted(files)]
    with create_store(path, rows=sum(map(len, parts)), features=len(spec.features)) as writer:
        first, offsets = 0, [0]
        for bars in parts:
            rows = slice(first, first + len(bars))
            build_features(bars, spec, out=writer.features[rows])
            made = forward_return_labels(
                bars.close, offsets=bars.offsets, volume=bars.volume, **{"horizon": 1, **labels}
            )
            writer.labels[rows], writer.trainable[rows] = made.y, made.trainable
            writer.ts[rows] = bars.ts
            offsets += (bars.offsets[1:] + first).tolist()
            first = rows.stop
        writer.commit(
            names=spec.names, spec_hash=spec.hash, convention=spec.convention, symbols=names,
            offsets=np.array(offsets), first_valid=spec.first_valid,
        )  # fmt: skip
    return open_store(path)


def same_bytes(a, b) -> None:
    """Both stores say the same and their files hold the same bytes, checksums included."""
    for name in ("names", "spec_hash", "convention", "symbols", "first_valid", "scaled"):
        assert getattr(a, name) == getattr(b, name), name
    assert a.offsets.tolist() == b.offsets.tolist()
    for array in ("features", "labels", "trainable", "ts"):
        one, other = (next(s.path.glob(f"data-*/{array}.npy")).read_bytes() for s in (a, b))
        assert one == other, array
    open_store(a.path, verify=True)


SIZES = (60, 40, 71, 33, 1, 90, 55, 48, 66, 20)
NAMES = ["S00", "S01", "A2", "B2", "S03", "S04", "A5", "B5", "S06", "S07", "A8", "B8", "S09"]


@pytest.fixture(scope="session")
def spec():
    return SPEC


@pytest.fixture(scope="session")
def plain_spec():
    """A spec as a mapping that JSON can hold."""
    return PLAIN


@pytest.fixture(scope="session")
def write():
    """Writes bars to a file; with ``symbols``, their names as a column."""
    return write_bars


@pytest.fixture(scope="session")
def assert_same():
    return same_bytes


@pytest.fixture(scope="session")
def store_of():
    return expected_store


@pytest.fixture(scope="session")
def universe_of():
    return write_universe


@pytest.fixture
def files(tmp_path):
    """Ten files of 12 series in all, under ``bars``."""
    return write_universe(tmp_path / "bars", SIZES)


@pytest.fixture(scope="session")
def expected(tmp_path_factory):
    """The store of ``files``."""
    folder = tmp_path_factory.mktemp("expected")
    return expected_store(folder / "store", write_universe(folder / "bars", SIZES), NAMES)
