import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tfa_perf.data.split import SplitError, split_windows


@given(
    lengths=st.lists(st.integers(0, 60), min_size=1, max_size=4),
    window=st.integers(1, 12),
    horizon=st.integers(1, 5),
    first_valid=st.integers(0, 8),
    fraction=st.floats(0.1, 0.9),
    data=st.data(),
)
def test_parts_share_no_row_and_cross_no_boundary(
    lengths, window, horizon, first_valid, fraction, data
):
    n = sum(lengths)
    assume(n > 0)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    starts = [data.draw(st.integers(0, 40)) for _ in lengths]
    ts = np.concatenate([s + np.arange(k) for s, k in zip(starts, lengths, strict=True)])
    ts = ts.astype(np.int64)
    trainable = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    try:
        split = split_windows(
            ts,
            offsets,
            trainable,
            window=window,
            horizon=horizon,
            first_valid=first_valid,
            train_fraction=fraction,
        )
    except SplitError:
        return
    series = np.searchsorted(offsets, np.arange(n), side="right")
    first_row = offsets[:-1][series - 1]
    seen = {"train": set(), "val": set()}
    for part, ends, reach in (("train", split.train_ends, horizon), ("val", split.val_ends, 0)):
        for end in ends:
            assert trainable[end]
            start = end - window + 1
            assert start >= first_row[end] + first_valid
            # A label looks `horizon` rows on; a training label must not look past the cut.
            rows = range(start, end + reach + 1)
            assert series[rows[0]] == series[rows[-1]]
            seen[part].update(rows)
            if part == "train":
                assert split.train_rows[start : end + 1].all()
    assert not seen["train"] & seen["val"]
    assert max(ts[list(seen["train"])]) < min(ts[list(seen["val"])])
    assert not set(np.flatnonzero(split.train_rows)) & seen["val"]


def test_one_series_by_hand():
    split = split_windows(
        np.arange(20, dtype=np.int64),
        np.array([0, 20]),
        np.ones(20, dtype=bool),
        window=3,
        horizon=2,
        first_valid=4,
        train_fraction=0.5,
    )
    assert split.train_ends.tolist() == [6, 7]
    assert split.val_ends.tolist() == list(range(12, 20))
    assert np.flatnonzero(split.train_rows).tolist() == [4, 5, 6, 7]


@pytest.mark.parametrize(("fraction", "part"), [(0.05, "training"), (0.95, "validation")])
def test_a_part_without_windows_says_which_and_how_many_bars(fraction, part):
    with pytest.raises(SplitError, match=f"no {part} window: 20 bars"):
        split_windows(
            np.arange(20, dtype=np.int64),
            np.array([0, 20]),
            np.ones(20, dtype=bool),
            window=3,
            horizon=2,
            first_valid=4,
            train_fraction=fraction,
        )
