"""Labels against a loop, and properties of their boundaries."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfa_perf.data import Labels, forward_return_labels, synthetic_bars

PRICES = st.sampled_from([0.01, 99.0, 99.5, 100.0, 100.5, 101.0, 1e5])
VOLUMES = st.sampled_from([0.0, 1.0, 50.0, 1e9])


@st.composite
def series(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    lengths = draw(st.lists(st.integers(0, 12), min_size=1, max_size=5))
    n = sum(lengths)
    close = draw(st.lists(PRICES, min_size=n, max_size=n))
    volume = draw(st.lists(VOLUMES, min_size=n, max_size=n))
    return np.array(close), np.array(volume), np.cumsum([0, *lengths])


def oracle(
    close: np.ndarray,
    horizon: int,
    offsets: np.ndarray,
    volume: np.ndarray,
    min_volume: float,
    min_move: float,
) -> Labels:
    n = len(close)
    y, forward, trainable = np.zeros(n, np.float32), np.full(n, math.nan), np.zeros(n, bool)
    for s in range(len(offsets) - 1):
        for t in range(offsets[s], offsets[s + 1]):
            if t + horizon >= offsets[s + 1]:
                continue
            forward[t] = math.log(close[t + horizon] / close[t])
            y[t] = 1.0 if forward[t] > 0 else 0.0
            trainable[t] = volume[t] >= min_volume and abs(forward[t]) >= min_move
    return Labels(y, forward, trainable)


@given(
    bars=series(),
    horizon=st.integers(1, 15),
    min_volume=st.sampled_from([0.0, 1.0, 51.0]),
    min_move=st.sampled_from([0.0, 0.004, 0.0075]),
)
def test_equal_to_a_loop(
    bars: tuple[np.ndarray, np.ndarray, np.ndarray],
    horizon: int,
    min_volume: float,
    min_move: float,
) -> None:
    close, volume, offsets = bars
    labels = forward_return_labels(
        close, horizon, offsets=offsets, volume=volume, min_volume=min_volume, min_move=min_move
    )
    expected = oracle(close, horizon, offsets, volume, min_volume, min_move)
    assert labels.y.dtype == np.float32 and labels.forward_return.dtype == np.float64
    assert labels.trainable.dtype == np.bool_
    np.testing.assert_array_equal(labels.y, expected.y)
    np.testing.assert_array_equal(labels.trainable, expected.trainable)
    np.testing.assert_allclose(labels.forward_return, expected.forward_return, rtol=1e-13)


@given(bars=series(), horizon=st.integers(1, 5), data=st.data())
def test_no_label_looks_across_a_boundary_or_past_its_horizon(
    bars: tuple[np.ndarray, np.ndarray, np.ndarray], horizon: int, data: st.DataObject
) -> None:
    close, _, offsets = bars
    if not len(close):
        return
    row = data.draw(st.integers(0, len(close) - 1))
    changed = close.copy()
    changed[row] *= 3.0
    before = forward_return_labels(close, horizon, offsets=offsets)
    after = forward_return_labels(changed, horizon, offsets=offsets)
    moved = np.flatnonzero(
        ~np.isclose(before.forward_return, after.forward_return, rtol=0, atol=1e-9, equal_nan=True)
    )
    owner = np.searchsorted(offsets, np.arange(len(close)), side="right")
    assert all(t in (row - horizon, row) and owner[t] == owner[row] for t in moved)


def test_last_rows_of_each_series_have_no_label() -> None:
    bars = synthetic_bars(900, seed=1, symbols=3)
    labels = forward_return_labels(bars.close, 7, offsets=bars.offsets)
    unlabelled = np.concatenate([np.arange(stop - 7, stop) for stop in bars.offsets[1:]])
    np.testing.assert_array_equal(np.flatnonzero(~labels.trainable), unlabelled)
    assert np.isnan(labels.forward_return[unlabelled]).all() and not labels.y[unlabelled].any()


def test_without_offsets_there_is_one_series() -> None:
    labels = forward_return_labels(np.array([1.0, 2.0, 1.0, 1.0]), 1)
    assert labels.y.tolist() == [1, 0, 0, 0]
    assert labels.trainable.tolist() == [True, True, True, False]


def test_unknown_volume_is_not_trainable() -> None:
    volume = np.array([5.0, math.nan, 5.0])
    labels = forward_return_labels(np.ones(3), 1, volume=volume, min_volume=1)
    assert labels.trainable.tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"horizon": 0}, "horizon must be at least 1 bar, got 0"),
        ({"horizon": -1}, "horizon must be at least 1 bar"),
        ({"horizon": 1.5}, r"horizon must be a whole number of bars, got 1\.5"),
        ({"close": np.ones((2, 2))}, "close must be 1-D"),
        ({"close": np.array([1.0, 0.0])}, r"close\[1\] is 0\.0; prices must be positive"),
        ({"close": np.array([1.0, math.nan])}, r"close\[1\] is nan"),
        ({"offsets": np.array([0, 3])}, r"offsets must rise from 0 to len\(close\) = 4"),
        ({"offsets": np.array([0, 5, 4])}, "offsets must rise"),
        ({"offsets": np.array([0, -1, 4])}, "offsets must rise"),
        ({"offsets": np.array([0.0, 4.0])}, "offsets must be a 1-D integer array"),
        ({"min_volume": 1.0}, "min_volume needs volume"),
        ({"min_volume": 1.0, "volume": np.ones(3)}, "min_volume needs volume"),
        ({"min_volume": -1.0, "volume": np.ones(4)}, "min_volume must be a finite number"),
        ({"min_move": math.nan}, "min_move must be a finite number"),
    ],
)
def test_arguments_that_make_no_labels(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        forward_return_labels(**{"close": np.ones(4), "horizon": 1, **arguments})
