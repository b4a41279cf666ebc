"""OHLCV bars held column by column, and `load_bars`, which finds them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt

_VALUE_COLUMNS = ("open", "high", "low", "close", "volume")


class BarsError(ValueError):
    """Bars that cannot be used; the message names the source, the row and the fix."""


@dataclass(frozen=True, eq=False, repr=False)
class Bars:
    """N bars of S series, the rows of one series next to each other.

    Attributes
    ----------
    ts : int64 [N], epoch nanoseconds UTC, strictly increasing within a series.
    open, high, low, close, volume : float64 [N], C-contiguous.
    symbols : S names, one per series; `("",)` where the source names none.
    offsets : int64 [S+1]; series s is rows `offsets[s]:offsets[s+1]`.

    Raises
    ------
    BarsError : an array of the wrong dtype, shape or layout, or offsets that do not cover the
        rows. The values themselves are checked where bars are read, not here.
    """

    ts: npt.NDArray[np.int64]
    open: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]
    low: npt.NDArray[np.float64]
    close: npt.NDArray[np.float64]
    volume: npt.NDArray[np.float64]
    symbols: tuple[str, ...]
    offsets: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        expected: dict[str, type[np.generic]] = {"ts": np.int64, "offsets": np.int64}
        expected |= {name: np.float64 for name in _VALUE_COLUMNS}
        for name, dtype in expected.items():
            array = getattr(self, name)
            if not isinstance(array, np.ndarray) or array.ndim != 1 or array.dtype != dtype:
                raise BarsError(f"bars.{name} must be a 1-D {dtype.__name__} array, got {array!r}")
            if not array.flags.c_contiguous:
                raise BarsError(f"bars.{name} must be contiguous: pass np.ascontiguousarray(...)")
            if name != "offsets" and array.size != self.ts.size:
                raise BarsError(f"bars.{name} has {array.size} rows, bars.ts has {self.ts.size}")
        offsets = self.offsets
        if (
            offsets.size != len(self.symbols) + 1
            or offsets[0] != 0
            or offsets[-1] != self.ts.size
            or np.any(np.diff(offsets) < 0)
        ):
            raise BarsError(
                f"bars.offsets must rise from 0 to {self.ts.size} with one more entry than the "
                f"{len(self.symbols)} symbols, got {offsets!r}"
            )

    def __len__(self) -> int:
        return int(self.ts.size)

    def __repr__(self) -> str:
        if not len(self):
            return "Bars(0 rows)"
        first, last = np.array([self.ts.min(), self.ts.max()]).astype("M8[ns]").astype("M8[s]")
        names = [symbol for symbol in self.symbols[:3] if symbol]
        label = f" ({', '.join(names)}{', ...' if len(self.symbols) > 3 else ''})" if names else ""
        return f"Bars({len(self):,} rows, {len(self.symbols)} series{label}, {first} to {last} UTC)"

    def slice(self, start: int, stop: int) -> Bars:
        """Rows `start:stop` as views; series left without a row are dropped."""
        start, stop, _ = slice(start, stop).indices(len(self))
        stop = max(start, stop)
        edges = np.clip(self.offsets, start, stop) - start
        kept = np.flatnonzero(np.diff(edges) > 0)
        columns = {name: getattr(self, name)[start:stop] for name in ("ts", *_VALUE_COLUMNS)}
        return Bars(
            **columns,
            symbols=tuple(self.symbols[i] for i in kept),
            offsets=np.append(edges[kept], edges[-1]),
        )


def load_bars(source: str | Path) -> Bars:
    """Bars from the bundled sample, a seeded generator, or a file.

    `"sample"` is the daily S&P 500 of 1999-2018 (5031 bars). `"synthetic:N"` and
    `"synthetic:N:SEED"` are N seeded minute bars of `synthetic_bars`. Anything else is the path
    of a `.csv`, `.csv.gz`, `.parquet` or `.pq` file, read by `read_bars`, which says what a file
    may hold. For a file that is itself called `sample`, write `./sample` or pass a `Path`.

    The sample and files are read by the package polars; generated bars do without it.

    Raises
    ------
    BarsError : an unknown source, a file that does not hold usable bars, or no polars to read it.
    """
    if not str(source):
        raise BarsError("bars: the path is empty; give a file, 'sample' or 'synthetic:ROWS'")
    if source == "sample":
        sample = resources.files("tfa_perf.data") / "samples" / "sp500_daily.parquet"
        with resources.as_file(sample) as path:
            return _read(path)
    if isinstance(source, str) and source.startswith("synthetic:"):
        from tfa_perf.data.synthetic import synthetic_bars

        try:
            n, seed = (int(part) for part in (source + ":0").split(":")[1:3])
            if source.count(":") > 2:
                raise ValueError("too many parts")
            return synthetic_bars(n, seed)
        except ValueError as error:
            raise BarsError(
                f"{source!r}: write synthetic:ROWS or synthetic:ROWS:SEED, "
                f"as in synthetic:1000000:7 ({error})"
            ) from error
    return _read(Path(source))


def _read(path: Path) -> Bars:
    try:
        from tfa_perf.data.bars_file import read_bars
    except ModuleNotFoundError as error:
        if error.name != "polars":
            raise
        raise BarsError(
            f"{path}: the package polars is needed to read it; pip install polars, or give "
            "synthetic:ROWS for generated bars"
        ) from None
    return read_bars(path)
