"""Batches over one copy of the rows that their windows share."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tfa_perf.data.loader import WindowLoader


def table(rows):
    X = np.random.default_rng(0).standard_normal((rows, 3), np.float32)
    return X, X[:, 0] > 0


def shares(x):
    return x.stride()[0] == x.stride()[1]


@given(
    rows=st.integers(1, 60),
    window=st.integers(1, 10),
    batch_size=st.integers(1, 20),
    stride=st.integers(1, 2),
    cut=st.integers(0, 60),
    shuffle=st.booleans(),
)
def test_they_hold_what_copies_of_the_windows_hold(rows, window, batch_size, stride, cut, shuffle):
    if min(cut, rows - cut) < window:
        cut = 0
    X, y = table(rows)
    options = {
        "window": min(window, rows), "batch_size": batch_size, "stride": stride, "shuffle": shuffle,
        "series": np.array([0, cut, rows]), "return_index": True,
    }  # fmt: skip
    views = list(WindowLoader(X, y, overlapping=True, **options))
    copies = list(WindowLoader(X, y, **options))
    assert len(views) == len(copies)
    for one, other in zip(views, copies, strict=True):
        assert all(map(torch.equal, one, other))


def test_only_windows_row_after_row_share_memory():
    X, y = table(80)
    loader = WindowLoader(X, y, window=8, batch_size=16, series=[0, 40, 80], overlapping=True)
    # The third batch of 33 + 33 windows has some of either series.
    assert [shares(x) for x, _ in loader] == [True, True, False, True, True]
    assert not any(shares(x) for x, _ in WindowLoader(X, y, window=8, batch_size=16))


@pytest.mark.parametrize("options", [{"dtype": torch.float16}, {"nan": "mask"}, {"shuffle": True}])
def test_what_must_be_made_anew_is_copied(options):
    X, y = table(80)
    loader = WindowLoader(X, y, window=8, batch_size=16, overlapping=True, **options)
    assert not any(shares(batch[0]) for batch in loader)


def test_a_kept_batch_is_never_overwritten():
    X, y = table(300)
    loader = WindowLoader(X, y, window=5, batch_size=7, overlapping=True)
    kept = [x for _ in range(3) for x, _ in loader]
    copies = [x for _ in range(3) for x, _ in WindowLoader(X, y, window=5, batch_size=7)]
    assert all(map(torch.equal, kept, copies))


def test_the_table_is_not_part_of_a_batch():
    X, y = table(60)
    before = X.copy()
    for x, _ in WindowLoader(X, y, window=5, batch_size=7, overlapping=True):
        x.zero_()
    assert np.array_equal(X, before)
