"""Stylised facts of the synthetic bars, on fixed seeds."""

from __future__ import annotations

import numpy as np
import pytest

from tfa_perf.data import Bars, synthetic_bars
from tfa_perf.data.synthetic import MAX_ROWS, MINUTES

DAYS = 250
PINNED_CLOSE = [100.43, 100.53, 100.44, 100.13]
PINNED_VOLUME = [22531.0, 18354.0, 18497.0, 23909.0]


@pytest.fixture(scope="module")
def bars() -> Bars:
    return synthetic_bars(DAYS * MINUTES, seed=11)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a, b)[0, 1])


def test_same_numbers_for_the_same_seed(bars: Bars) -> None:
    again = synthetic_bars(DAYS * MINUTES, seed=11)
    for name in ("ts", "open", "high", "low", "close", "volume"):
        np.testing.assert_array_equal(getattr(again, name), getattr(bars, name))
    assert not np.array_equal(synthetic_bars(len(bars), seed=12).close, bars.close)


def test_first_bars_are_the_documented_ones() -> None:
    bars = synthetic_bars(4, seed=0)
    assert bars.close.tolist() == PINNED_CLOSE
    assert bars.volume.tolist() == PINNED_VOLUME


def test_prices_are_consistent_ticks(bars: Bars) -> None:
    assert np.all(bars.low <= np.minimum(bars.open, bars.close))
    assert np.all(bars.high >= np.maximum(bars.open, bars.close))
    assert bars.low.min() >= 0.01 and bars.volume.min() == 0
    for price in (bars.open, bars.high, bars.low, bars.close):
        np.testing.assert_array_equal(price, np.round(price, 2))
    np.testing.assert_array_equal(bars.volume, np.rint(bars.volume))


def test_sessions_of_390_minutes_on_weekdays(bars: Bars) -> None:
    times = bars.ts.astype("M8[ns]").reshape(DAYS, MINUTES)
    assert np.all(np.diff(times, axis=1) == np.timedelta64(1, "m"))
    days = times[:, 0].astype("M8[D]")
    assert np.all(np.is_busday(days)) and np.busday_count(days[0], days[-1]) == DAYS - 1
    assert np.all(times[:, 0] - days == np.timedelta64(14 * 60 + 30, "m"))


def test_volatility_clusters_and_returns_do_not(bars: Bars) -> None:
    returns = np.diff(np.log(bars.close))
    size = np.abs(returns)
    assert abs(correlation(returns[1:], returns[:-1])) < 0.03
    assert correlation(size[1:], size[:-1]) > 0.2
    assert correlation(size[30:], size[:-30]) > 0.1
    daily = size[: (DAYS - 1) * MINUTES].reshape(-1, MINUTES).mean(axis=1)
    assert correlation(daily[1:], daily[:-1]) > 0.5
    assert np.mean((returns - returns.mean()) ** 4) / returns.var() ** 2 > 5


def test_volume_and_range_are_u_shaped_over_the_session(bars: Bars) -> None:
    for values in (bars.volume, bars.high - bars.low):
        by_minute = values.reshape(DAYS, MINUTES).mean(axis=0)
        middle = by_minute[180:210].mean()
        assert by_minute[:30].mean() > 1.5 * middle
        assert by_minute[-30:].mean() > 1.5 * middle


def test_overnight_gaps_exceed_minute_moves(bars: Bars) -> None:
    open_, close = bars.open.reshape(DAYS, MINUTES), bars.close.reshape(DAYS, MINUTES)
    gap = np.abs(np.log(open_[1:, 0] / close[:-1, -1]))
    within = np.abs(np.log(open_[:, 1:] / close[:, :-1]))
    assert np.median(gap) > 5 * np.quantile(within, 0.99)


def test_some_bars_are_flat_and_some_of_them_without_volume(bars: Bars) -> None:
    flat = (bars.high == bars.low) & (bars.open == bars.close) & (bars.open == bars.high)
    silent = bars.volume == 0
    assert 0.01 < silent.mean() < 0.04
    assert 0.005 < (flat & ~silent).mean() < 0.04
    assert np.all(flat[silent])
    rows = np.flatnonzero(silent)
    np.testing.assert_array_equal(bars.close[rows], bars.close[rows - 1])


def test_symbols_are_independent_series() -> None:
    bars = synthetic_bars(1001, seed=3, symbols=4)
    assert bars.symbols == ("SYN0", "SYN1", "SYN2", "SYN3")
    assert np.diff(bars.offsets).tolist() == [251, 250, 250, 250]
    for start, stop in zip(bars.offsets[:-1], bars.offsets[1:], strict=True):
        assert bars.ts[start] == bars.ts[0] and np.all(np.diff(bars.ts[start:stop]) > 0)
    assert not np.array_equal(bars.close[:250], bars.close[251:501])
    np.testing.assert_array_equal(bars.close[:251], synthetic_bars(251, seed=3).close)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "n must be 1 to"),
        ({"n": MAX_ROWS + 1}, "n must be 1 to"),
        ({"n": 5, "seed": -1}, "seed must not be negative"),
        ({"n": 5, "symbols": 0}, "symbols must be 1 to n"),
        ({"n": 5, "symbols": 6}, "symbols must be 1 to n"),
    ],
)
def test_arguments_outside_their_range(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        synthetic_bars(**arguments)


def test_the_largest_series_ends_before_int64_nanoseconds_do() -> None:
    weeks = MAX_ROWS // MINUTES // 5 + 1
    end = np.datetime64("2000-01-03", "D") + np.timedelta64(7 * weeks, "D")
    assert end < np.datetime64("2262-04-11", "D")
