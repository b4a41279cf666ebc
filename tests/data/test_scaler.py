"""Scaler against a two-pass oracle, its block edges, and its blindness to other rows."""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tfa_perf.data import Scaler, fit_scaler, scaler, transform

VALUES = st.floats(-1e6, 1e6, width=32)
TABLES = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=VALUES
)


@pytest.fixture(params=["one block", "blocks of 3 rows"])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param != "one block":
        monkeypatch.setattr(scaler, "_BLOCK_BYTES", 3 * 8 * 5)


def table(rows: int = 100, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    X = rng.normal([0, 1e5, 1e-6, 3, 7], [1, 0.01, 1e-7, 0, 1e4], (rows, 5))
    return X.astype(np.float32)


@pytest.mark.usefixtures("blocks")
def test_equal_to_exact_arithmetic() -> None:
    X = table()
    rows = np.random.default_rng(1).random(100) < 0.6
    fitted = fit_scaler(X, rows)
    for column in range(5):
        values = [float(x) for x in X[rows, column]]
        deviation = statistics.pstdev(values)
        assert fitted.mean[column] == pytest.approx(statistics.fmean(values), rel=1e-14)
        assert fitted.scale[column] == pytest.approx(deviation if column != 3 else 1.0, rel=1e-9)
    assert fitted.mean.dtype == fitted.scale.dtype == np.float64
    expected = (X.astype(np.float64) - fitted.mean) / fitted.scale
    np.testing.assert_array_equal(transform(fitted, X), expected.astype(np.float32))


@pytest.mark.usefixtures("blocks")
def test_indices_and_mask_agree_and_repeats_count_once() -> None:
    X, rows = table(), np.array([5, 3, 3, 90, 41, 0])
    mask = np.isin(np.arange(100), rows)
    by_index, by_mask = fit_scaler(X, rows), fit_scaler(X, mask)
    np.testing.assert_array_equal(by_index.mean, by_mask.mean)
    np.testing.assert_array_equal(by_index.scale, by_mask.scale)


@given(X=TABLES, data=st.data())
def test_only_the_given_rows_are_seen(X: np.ndarray, data: st.DataObject) -> None:
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(X), max_size=len(X))))
    mask[data.draw(st.integers(0, len(X) - 1))] = True
    fitted = fit_scaler(X, mask)
    poisoned = X.copy()
    poisoned[~mask] = math.nan
    again = fit_scaler(poisoned, mask)
    np.testing.assert_array_equal(fitted.mean, again.mean)
    np.testing.assert_array_equal(fitted.scale, again.scale)


@given(X=TABLES)
def test_fitted_rows_come_out_standard(X: np.ndarray) -> None:
    fitted = fit_scaler(X, np.ones(len(X), bool))
    Z = transform(fitted, X).astype(np.float64)
    np.testing.assert_allclose(Z.mean(axis=0), 0, atol=1e-6)
    constant = np.ptp(X, axis=0) == 0
    np.testing.assert_array_equal(fitted.scale[constant], 1)
    np.testing.assert_array_equal(Z[:, constant], 0)
    np.testing.assert_allclose(Z[:, ~constant].std(axis=0), 1, atol=1e-5)


def test_a_constant_column_that_float_sums_would_blur() -> None:
    X = np.full((100_003, 1), 0.1, np.float32)
    fitted = fit_scaler(X, np.ones(len(X), bool))
    assert fitted.scale[0] == 1.0 and fitted.mean[0] == np.float32(0.1)


@pytest.mark.usefixtures("blocks")
def test_in_place_on_a_memory_map(tmp_path: Path) -> None:
    X = table()
    mapped = np.lib.format.open_memmap(tmp_path / "X.npy", "w+", np.float32, X.shape)
    mapped[...] = X
    fitted = fit_scaler(mapped, np.arange(50))
    expected = transform(fitted, X)
    assert transform(fitted, mapped, out=mapped) is mapped
    np.testing.assert_array_equal(mapped, expected)
    np.testing.assert_array_equal(X, table())


def test_nan_outside_the_fitted_rows_stays_nan() -> None:
    X = table()
    X[0, 2] = math.nan
    Z = transform(fit_scaler(X, np.arange(1, 100)), X)
    assert np.argwhere(np.isnan(Z)).tolist() == [[0, 2]]


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_non_finite_training_value_names_column_and_row(value: float) -> None:
    X = table()
    X[77, 4] = value
    rows = np.arange(40, 90)
    with pytest.raises(ValueError, match=rf"column 4 is {value} at row 77; leave rows before"):
        fit_scaler(X, rows)
    with pytest.raises(ValueError, match=r"column 'rsi' is"):
        fit_scaler(X, rows, names=["a", "b", "c", "d", "rsi"])


@given(X=TABLES)
def test_json_round_trip_is_exact(X: np.ndarray) -> None:
    fitted = fit_scaler(X, np.arange(len(X)))
    again = Scaler.from_dict(json.loads(json.dumps(fitted.to_dict())))
    np.testing.assert_array_equal(again.mean, fitted.mean)
    np.testing.assert_array_equal(again.scale, fitted.scale)


@pytest.mark.parametrize(
    "data",
    [
        None,
        {"mean": [0.0]},
        {"mean": [0.0], "scale": [0.0]},
        {"mean": [0.0], "scale": [-1.0]},
        {"mean": [0.0, 1.0], "scale": [1.0]},
        {"mean": [math.nan], "scale": [1.0]},
        {"mean": [0.0], "scale": [math.inf]},
        {"mean": ["x"], "scale": [1.0]},
        {"mean": [[0.0]], "scale": [[1.0]]},
    ],
)
def test_from_dict_refuses(data: dict[str, list[float]]) -> None:
    with pytest.raises(ValueError, match="scaler"):
        Scaler.from_dict(data)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros(100, bool), "chooses no row"),
        (np.array([], np.int64), "chooses no row"),
        (np.ones(99, bool), "masks 99 rows, X has 100"),
        (np.array([100]), r"rows must lie in 0\.\.99, got 100\.\.100"),
        (np.array([-1, 5]), r"rows must lie in 0\.\.99"),
        (np.array([0.5]), "bool mask or integer indices"),
        (np.ones((100, 1), bool), "bool mask or integer indices"),
    ],
)
def test_rows_that_cannot_be_fitted(rows: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_scaler(table(), rows)


def test_shapes_that_do_not_fit() -> None:
    X = table()
    fitted = fit_scaler(X, np.arange(100))
    with pytest.raises(ValueError, match="X has 4 columns, the scaler 5"):
        transform(fitted, X[:, :4])
    with pytest.raises(ValueError, match="X must be a 2-D array of numbers"):
        transform(fitted, X[0])
    with pytest.raises(ValueError, match="out must be float32 of shape"):
        transform(fitted, X, out=np.empty((99, 5), np.float32))
    with pytest.raises(ValueError, match="out must be float32 of shape"):
        transform(fitted, X, out=np.empty(X.shape))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="overlaps X in part"):
        transform(fitted, X[1:], out=X[:-1])
    with pytest.raises(ValueError, match="names has 1 entries, X has 5 columns"):
        fit_scaler(X, np.arange(5), names=["a"])
