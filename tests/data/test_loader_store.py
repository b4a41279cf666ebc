"""A feature store as the table: its labels, series, trainable rows and scaler."""

import itertools
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

from tfa_perf.data import FeatureStore, Scaler, create_store, open_store, transform
from tfa_perf.data.loader import WindowLoader
from tfa_perf.data.window_dataset import WindowDataset

ROWS, COLUMNS, WINDOW = 90, 5, 6
OFFSETS = np.array([0, 31, 36, ROWS])
X = np.random.default_rng(0).standard_normal((ROWS, COLUMNS)).astype(np.float32) * 50 + 1000
Y = np.random.default_rng(1).standard_normal(ROWS).astype(np.float32)
TRAINABLE = np.random.default_rng(2).random(ROWS) < 0.8
SCALER = Scaler(X.mean(axis=0, dtype=np.float64), np.array([1, 50.5, 1e-3, 7e4, 1 / 3]))


def stored(path: Path, *, scaler: Scaler | None, scaled: bool = False) -> FeatureStore:
    with create_store(path, rows=ROWS, features=COLUMNS) as writer:
        writer.features[...], writer.labels[...] = X, Y
        writer.trainable[...], writer.ts[...] = TRAINABLE, np.arange(ROWS)
        writer.commit(
            names=list("abcde"), spec_hash="0", convention="legacy", symbols=("A", "B", "C"),
            offsets=OFFSETS, scaler=scaler, scaled=scaled,
        )  # fmt: skip
    return open_store(path)


def allowed(horizon: int) -> list[int]:
    """Last rows of the windows inside one series whose label is too, and that may be used."""
    return [
        end
        for low, high in itertools.pairwise(OFFSETS)
        for end in range(low + WINDOW - 1, high - horizon)
        if TRAINABLE[end]
    ]


@pytest.mark.parametrize("horizon", [0, 3])
@pytest.mark.parametrize("shuffle", [False, True, "block"])
def test_labels_and_series_of_a_store(tmp_path, horizon, shuffle):
    loader = WindowLoader(
        stored(tmp_path, scaler=None), window=WINDOW, horizon=horizon, batch_size=7,
        shuffle=shuffle, return_index=True,
    )  # fmt: skip
    seen = []
    for x, labels, ends in loader:
        for one, label, end in zip(x, labels, ends.tolist(), strict=True):
            np.testing.assert_array_equal(one, X[end - WINDOW + 1 : end + 1])
            assert label.item() == Y[end + horizon]
            seen.append(end)
    assert (sorted(seen) if shuffle else seen) == allowed(horizon)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scaled", [False, True])
def test_the_scaler_of_a_store_is_applied_once(tmp_path, dtype, scaled):
    store = stored(tmp_path, scaler=SCALER, scaled=scaled)
    wanted = torch.from_numpy(X if scaled else transform(SCALER, X))
    # The scaler computes in float64, the gather in float32, of values that cancel.
    near = 0 if scaled else 1e-6 * float(wanted.abs().max())
    step = torch.finfo(dtype).eps if dtype is not torch.float32 else 1e-5
    form = {"window": WINDOW, "return_index": True, "dtype": dtype}
    x, _, ends = next(iter(WindowLoader(store, batch_size=1000, shuffle=True, **form)))
    assert x.dtype is dtype and len(x) == len(allowed(0))
    for one, end in zip(x, ends.tolist(), strict=True):
        rows = wanted[end - WINDOW + 1 : end + 1]
        if scaled:
            assert torch.equal(one, rows.to(dtype))
        else:
            finite = rows.to(dtype).isfinite()
            torch.testing.assert_close(one.float()[finite], rows[finite], rtol=step, atol=near)
    samples = WindowDataset(store, **form)
    at = {end: i for i, end in enumerate(ends.tolist())}
    for sample, _, end in (samples[i] for i in range(len(samples))):
        assert torch.equal(sample, x[at[int(end)]])


@pytest.mark.parametrize("first_valid", [0, 2, 5, 31])
def test_no_window_covers_rows_that_lack_a_feature(tmp_path, first_valid):
    with create_store(tmp_path, rows=ROWS, features=COLUMNS) as writer:
        writer.features[...], writer.trainable[...] = X, True
        for low in OFFSETS[:-1]:
            writer.features[low : low + first_valid] = np.nan
        writer.commit(
            names=list("abcde"), spec_hash="0", convention="talib", symbols=("A", "B", "C"),
            offsets=OFFSETS, first_valid=first_valid,
        )  # fmt: skip
    store = open_store(tmp_path)
    assert store.first_valid == first_valid
    span = [(0, 31), (31, 36), (50, 90)]
    firsts = [(low + first_valid, high) for low, high in itertools.pairwise(OFFSETS)]
    cut = [*firsts[:2], (max(50, 36 + first_valid), 90)]
    for options, rows in (({}, firsts), ({"span": span}, cut)):
        loader = WindowLoader(store, window=WINDOW, return_index=True, **options)
        ends = [end for *_, rows_of in loader for end in rows_of.tolist()]
        assert ends == [end for low, high in rows for end in range(low + WINDOW - 1, high)]
    # Series of one's own say nothing of where features begin.
    with pytest.raises(ValueError, match="NaN") if first_valid else nullcontext():
        WindowLoader(store, window=WINDOW, series=OFFSETS)
