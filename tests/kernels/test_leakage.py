"""The leakage check over all ops, and leaks planted for it to find."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from tfa_kernels import build_features, check_leakage
from tfa_kernels.ops import CONVENTIONS, OPS

SOURCES = ("open", "close", "volume", "logret")


def kinds(feature):
    return {kind for kind, _ in feature.problems}


@pytest.fixture(scope="module")
def frame(walk_bars):
    return pd.DataFrame(walk_bars(600, seed=1))


@pytest.fixture(scope="module")
def two_symbols(walk_bars):
    frames = [pd.DataFrame(walk_bars(300, seed=s, level=50.0 * s)) for s in (1, 4)]
    return pd.concat([f.assign(symbol=s) for f, s in zip(frames, "AB", strict=True)])


def only(report):
    (feature,) = report.features
    return feature


@pytest.mark.compiled
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_no_op_leaks_and_each_depends_on_the_start_as_listed(every_op, convention, walk_bars):
    spec = every_op(convention, sources=SOURCES)
    report = check_leakage(spec, walk_bars(2500, seed=5))
    assert report.leaking == () and report.untested == (), str(report)
    for feature, entry, lookback in zip(
        report.features, spec.features, spec.lookbacks, strict=True
    ):
        if feature.start_dependence == "finite":
            assert feature.settled_after == feature.lookback, feature
            assert feature.lookback - lookback in (0, 1), feature
        elif feature.start_dependence == "decaying":
            assert lookback < feature.settled_after < 2000, feature
        else:
            assert entry.op in ("OBV", "VPT", "AD_LINE")
            assert feature.settled_after is None, feature
    report.raise_if_leaking()


@pytest.mark.compiled
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_no_op_leaks_between_symbols(every_op, convention, walk_bars):
    sizes = [700, 1, 1100, 2, 40]
    bars = walk_bars(sum(sizes), seed=6)
    bars["symbol"] = np.repeat(list("ABCDE"), sizes)
    report = check_leakage(
        every_op(convention, emit_from_index=30, pad_value=-1.0, sources=SOURCES), bars
    )
    assert report.leaking == () and report.untested == (), str(report)
    assert (report.rows, report.series) == (sum(sizes), 5)


@pytest.mark.compiled
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_less_future_and_fewer_symbols_leave_every_bit(every_op, convention, walk_bars):
    bars = walk_bars(2200, seed=7)
    bars["symbol"] = np.repeat([1, 2], [1300, 900])
    report = check_leakage(every_op(convention, sources=SOURCES), bars, rtol=0.0)
    for feature in report.features:
        assert kinds(feature) <= {"start dependence"}, feature


@pytest.mark.compiled
@pytest.mark.parametrize("op", ["EMA", "RSI", "ATR", "ADX", "MACD_SIGNAL", "OBV", "AD_LINE", "VPT"])
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_a_recursive_op_that_claims_a_window_is_caught(
    every_op, convention, op, walk_bars, monkeypatch
):
    monkeypatch.setitem(OPS, op, replace(OPS[op], dependence="finite"))
    report = check_leakage(every_op(convention, sources=("close",)), walk_bars(900))
    assert {name.rsplit("_close")[0] for name in report.leaking} == {op}
    assert all(kinds(f) <= {"start dependence"} for f in report.features)


def test_bars_of_every_kind_give_the_same_report(every_op, two_symbols):
    spec = every_op("legacy", windows=(5,), sources=("close",))
    columns = {name: two_symbols[name].to_numpy() for name in two_symbols.columns}
    named = SimpleNamespace(**{k: v for k, v in columns.items() if k != "symbol"})
    named.offsets = np.array([0, 300, 600])
    report = check_leakage(spec, two_symbols)
    assert (report.series, report.leaking) == (2, ())
    for bars in (columns, named):
        assert check_leakage(spec, bars) == report
    polars = pytest.importorskip("polars")
    bars = polars.DataFrame({**columns, "symbol": columns["symbol"].tolist()})
    assert check_leakage(spec, bars) == report


@pytest.mark.compiled
def test_a_bad_bar_makes_recursive_ops_remember_for_good(every_op, walk_bars):
    bars = walk_bars(900)
    bars["close"][100] = np.nan
    report = check_leakage(every_op("talib", sources=("close",)), bars)
    assert report.leaking == ()
    settled = {f.name: f.settled_after for f in report.features}
    assert settled["EMA_close_14"] is None
    assert settled["SMA_close_14"] == 13


# Planted: build, what it states, and what must be found.


def close(bars):
    return bars["close"]


def column(values, name="x"):
    return pd.DataFrame({name: np.asarray(values)})


def test_centred_window(frame):
    build = lambda b: column(close(b).rolling(21, center=True).mean())  # noqa: E731
    found = only(check_leakage(None, frame, build=build, lookbacks={"x": 20}))
    assert kinds(found) == {"look-ahead"}
    assert found.bars_ahead == 10


def test_shift_back(frame):
    build = lambda b: column(close(b).shift(-1))  # noqa: E731
    found = only(check_leakage(None, frame, build=build, lookbacks={"x": 0}))
    assert kinds(found) == {"look-ahead"}
    assert found.bars_ahead == 1
    assert "reads at least 1 bars ahead" in found.problems[0][1]


def z_score(b):
    x = close(b)
    return column((x - x.mean()) / x.std())


def min_max(b):
    x = close(b)
    return column((x - x.min()) / (x.max() - x.min()))


def back_fill(b):
    return column(close(b).where(np.arange(len(b)) % 7 == 0).bfill())


@pytest.mark.parametrize("build", [z_score, min_max])
def test_scaling_by_the_whole_series(build, frame):
    found = only(check_leakage(None, frame, build=build, lookbacks={"x": 0}))
    assert kinds(found) == {"look-ahead", "start dependence"}
    assert found.bars_ahead > 300
    undeclared = only(check_leakage(None, frame, build=build))
    assert kinds(undeclared) == {"look-ahead"}
    assert undeclared.settled_after is None


def test_look_ahead_on_a_few_rows_alone(frame):
    assert kinds(only(check_leakage(None, frame, build=back_fill))) == {"look-ahead"}


def test_more_checks_than_rows_check_every_row(frame):
    def build(bars):
        return column(close(bars).diff())

    bars = frame[:20]
    every = check_leakage(None, bars, build=build, checks=19)
    # 19 ends, and 10 later starts: those of the first half and the middle.
    assert every.rebuilds == 19 + 10
    assert check_leakage(None, bars, build=build, checks=2**62) == every


def test_an_outlier_hides_nothing(frame):
    bars = frame.copy()
    bars.loc[50, "close"] = 1e15
    found = only(check_leakage(None, bars, build=lambda b: column(close(b).shift(-1).ffill())))
    assert kinds(found) == {"look-ahead"}


@pytest.mark.parametrize(
    "build",
    [
        lambda b: column(close(b).rolling(10).mean()),
        lambda b: column(close(b).ewm(span=10).mean()),
        lambda b: column(close(b).diff()),
    ],
    ids=["rolling", "ewm", "diff"],
)
def test_state_that_crosses_symbols(build, two_symbols):
    found = only(check_leakage(None, two_symbols, build=build))
    assert kinds(found) == {"crosses series"}
    assert "row 300" in found.problems[0][1]


def test_grouped_by_symbol_does_not_cross(two_symbols):
    def build(b):
        return column(b.groupby("symbol")["close"].transform(lambda x: x.rolling(10).mean()))

    found = only(check_leakage(None, two_symbols, build=build, lookbacks={"x": 9}))
    assert found.problems == () and found.tested


def test_a_future_read_across_a_boundary_is_both(two_symbols):
    found = only(check_leakage(None, two_symbols, build=lambda b: column(close(b).shift(-1))))
    assert kinds(found) == {"look-ahead", "crosses series"}


def test_start_dependence_beyond_the_lookback(frame):
    def rolling(b):
        return column(close(b).rolling(20).mean())

    def ewm(b):
        return column(close(b).ewm(span=20, adjust=False).mean())

    def every_fifth(b):
        return column(close(b).where(np.arange(len(b)) % 5 == 0).ffill())

    assert only(check_leakage(None, frame, build=rolling, lookbacks={"x": 19})).problems == ()
    for build, stated in ((rolling, 18), (ewm, 20), (every_fifth, 4)):
        found = only(check_leakage(None, frame, build=build, lookbacks={"x": stated}))
        assert kinds(found) == {"start dependence"}, build
        assert f"where {stated} rows" in found.problems[0][1]


def test_what_states_nothing_is_measured(frame):
    def build(b):
        x = close(b)
        return pd.DataFrame(
            {
                "bar": x,
                "mean": x.rolling(20).mean(),
                "fading": x.ewm(span=5, adjust=False).mean(),
                "expanding": x.expanding().std(),
            }
        )

    report = check_leakage(None, frame, build=build)
    assert report.leaking == () and report.untested == ()
    settled = {f.name: f.settled_after for f in report.features}
    assert (settled["bar"], settled["mean"], settled["expanding"]) == (0, 19, None)
    assert 10 < settled["fading"] < 60
    assert {f.start_dependence for f in report.features} == {"undeclared"}


@pytest.mark.compiled
def test_one_leak_among_the_features_of_a_spec(every_op, walk_bars):
    bars, spec = walk_bars(800), every_op("talib", sources=SOURCES)

    def build(b):
        values = build_features(b, spec).values
        values[:-3, 17] = values[3:, 17]
        return values

    report = check_leakage(spec, bars, build=build)
    assert report.leaking == (spec.names[17],)
    assert report.features[17].bars_ahead == 3


@pytest.mark.compiled
def test_rolling_sums_from_another_start_are_within_rounding(every_op, walk_bars):
    # One step of float32 at most, where float64 sums were rebuilt at other rows.
    spec = every_op("talib", windows=(20,), sources=("close",))
    bars = walk_bars(5000, level=1e5)
    assert check_leakage(spec, bars, rtol=1.2e-7).leaking == ()
