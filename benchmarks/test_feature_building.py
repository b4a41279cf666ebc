"""Time to the finished C-order float32 matrix: the report's builder, TA-Lib and others, and ours.

``--size large`` takes a million bars, ``-m peers`` further libraries (the extra ``[peers]``). Each
gets the columns that it has the ops for, in float64 as its users give them, and what it returns is
compared with ours first.
"""

from __future__ import annotations

import math
from itertools import cycle

import numba
import numpy as np
import pytest

from benchmarks.sizes import current
from tfa_kernels import build_features, load_spec
from tfa_perf.baseline.features import build_features as build_features_as_written
from tfa_perf.config import bundled_configs
from tfa_perf.data.bars import load_bars

ROWS = current().bars
COLUMNS = 55


@pytest.fixture(scope="module")
def tfa55():
    return load_spec(bundled_configs() / "features" / "tfa55.json")


@pytest.fixture(scope="module")
def sides(tfa55):
    bars, spec = load_bars(f"synthetic:{ROWS}"), tfa55
    expected = build_features_as_written(bars, spec)
    scale = np.abs(expected).max(axis=0)
    # The report's ZWIN takes E[x^2] - E[x]^2, which cancels.
    assert (np.abs(build_features(bars, spec).values - expected) <= 1e-3 * scale).all()
    return {
        "before": lambda: build_features_as_written(bars, spec),
        "after": lambda: build_features(bars, spec),
    }


def test_feature_building(measure, sides, impl):
    measure(sides, impl, samples=ROWS, moved=ROWS * COLUMNS * 4)


@pytest.fixture(scope="module")
def bars(rows):
    """Closes in 64ths, which float32 holds exactly, and no two alike in a row."""
    rng = np.random.default_rng(0)
    level = np.round(64 * (500 + 100 * np.sin(np.arange(rows) / 3000)))
    noise = 20 * rng.integers(0, 2, rows) + 5 * (np.arange(rows) % 3)
    return {"close": (level + noise) / 64}


@pytest.fixture(scope="module")
def out(rows):
    return np.zeros((rows, COLUMNS), np.float32)


def bank(ops, convention="talib"):
    """The ops in turn over the close, with windows 5, 7, 9, ..."""
    features = [
        {"name": f"{op}_{w}", "op": op, "window": w}
        for op, w in zip(cycle(ops), range(5, 5 + 2 * COLUMNS, 2), strict=False)
    ]
    return load_spec({"schema_version": "2.0", "convention": convention, "features": features})


def column_by_column(ops):
    def build(bars, spec, out):
        for c, feature in enumerate(spec.features):
            out[:, c] = ops[feature.op](bars["close"], feature.window)
        return out

    return build


def z_score(mean, std):
    def z(x, w):
        distance = x - mean(x, w)
        distance /= std(x, w)
        return distance

    return z


def population(std):
    """From a std with the divisor w - 1."""
    return lambda x, w: std(x, w) * math.sqrt((w - 1) / w)


def talib(lib):
    return {"EMA": lib.EMA, "RSI": lib.RSI, "ZWIN": z_score(lib.SMA, lib.STDDEV)}


def kand(lib):
    def z(x, w):
        std, total, _ = lib.stddev(x, w)
        return (x - total / w) / std

    return {"EMA": lib.ema, "RSI": lambda x, w: lib.rsi(x, w)[0], "ZWIN": z}


def bottleneck(lib):
    mean, std = lib.move_mean, lib.move_std
    return {"SMA": mean, "VOLATILITY": std, "ZWIN": z_score(mean, std)}


def numbagg(lib):
    def mean(x, w):
        return lib.move_mean(x, window=w)

    std = population(lambda x, w: lib.move_std(x, window=w))
    return {"SMA": mean, "VOLATILITY": std, "ZWIN": z_score(mean, std)}


def coreforecast(lib):
    from coreforecast.exponentially_weighted import exponentially_weighted_mean
    from coreforecast.rolling import rolling_mean, rolling_std

    def ema(x, w):
        return exponentially_weighted_mean(x, 2 / (w + 1))

    return {"EMA": ema, "SMA": rolling_mean, "ZWIN": z_score(rolling_mean, population(rolling_std))}


def compare(versus, title, build, bars, spec, out, threads, tolerance=1e-4):
    """One row: build(bars, spec, out), which returns its matrix, against ours."""

    def other():
        return build(bars, spec, out)

    def ours():
        build_features(bars, spec, out=out, num_threads=threads)

    first = max(spec.lookbacks)
    ours()
    expected = out[first:].copy()
    out.fill(np.nan)
    got = other()[first:]
    assert got.dtype == np.float32 and got.flags.c_contiguous
    for c, name in enumerate(spec.names):
        # Stds by E[x^2] - E[x]^2 keep few digits.
        bound = tolerance * np.abs(expected[:, c]).max()
        np.testing.assert_allclose(got[:, c], expected[:, c], rtol=0, atol=bound, err_msg=name)
    del expected, got
    work = {"samples": len(out), "moved": out.nbytes}
    versus(f"{title}, threads: {threads}", other, ours, **work)


@pytest.mark.peers(always=True)
@pytest.mark.parametrize("threads", [1, 2])
def test_bank_against_talib(versus, installed, bars, out, threads):
    title = "TA-Lib: EMA, RSI, ZWIN"
    lib = installed(f"{title}, threads: {threads}", "talib")
    if threads > numba.config.NUMBA_NUM_THREADS:
        pytest.skip("one core")
    build, spec = column_by_column(talib(lib)), bank(("EMA", "RSI", "ZWIN"))
    compare(versus, title, build, bars, spec, out, threads)


@pytest.mark.parametrize("threads", [1, 2])
def test_tfa55_against_the_report(versus, rows, tfa55, out, threads):
    if threads > numba.config.NUMBA_NUM_THREADS:
        pytest.skip("one core")

    def build(bars, spec, out):
        return build_features_as_written(bars, spec)

    bars = load_bars(f"synthetic:{rows}")
    compare(versus, "the report: tfa55.json", build, bars, tfa55, out, threads, tolerance=1e-3)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("matrix", ["in memory", "new"])
def test_bank_against_filling_its_output(versus, bars, out, matrix, threads):
    """A bound, not another way to the same features: nothing is compared."""
    if threads > numba.config.NUMBA_NUM_THREADS:
        pytest.skip("one core")
    spec = bank(("EMA", "RSI", "ZWIN"))
    fill = {
        "in memory": lambda: out.fill(0.0),
        # Memory fresh from the system is cleared page by page as it is first written.
        "new": lambda: np.empty_like(out).fill(0.0),
    }
    into = {"in memory": out, "new": None}[matrix]
    versus(
        f"filling a matrix, {matrix}, threads: {threads}",
        fill[matrix],
        lambda: build_features(bars, spec, out=into, num_threads=threads),
        samples=len(out),
        moved=out.nbytes,
    )


@pytest.mark.peers
@pytest.mark.parametrize("columns", [kand, bottleneck, numbagg, coreforecast])
def test_peers(versus, installed, bars, out, columns):
    lib = installed(columns.__name__, columns.__name__)
    ops = columns(lib)
    # The smoothing of coreforecast begins with the first value, as in "legacy".
    spec = bank(tuple(ops), "legacy" if columns is coreforecast else "talib")
    title = f"{columns.__name__}: {', '.join(ops)}"
    compare(versus, title, column_by_column(ops), bars, spec, out, threads=1)


@pytest.mark.peers
def test_polars_talib(versus, installed, bars, out):
    title = "polars-talib: EMA, RSI, ZWIN"
    installed(title, "polars_talib")
    import polars as pl

    x = pl.col("close")
    ops = {
        "EMA": x.ta.ema,
        "RSI": x.ta.rsi,
        "ZWIN": lambda w: (x - x.ta.sma(w)) / x.ta.stddev(w, 1.0),
    }
    threads = min(pl.thread_pool_size(), numba.config.NUMBA_NUM_THREADS)

    def build(bars, spec, out):
        columns = [ops[f.op](f.window).cast(pl.Float32).alias(f.name) for f in spec.features]
        # A matrix of its own: faster than to write the columns into out.
        return pl.DataFrame(bars).select(columns).to_numpy(order="c")

    compare(versus, title, build, bars, bank(tuple(ops)), out, threads)
