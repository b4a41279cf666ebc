"""Which windows exist: the plan against a plain loop over rows."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfa_perf.data.loader import WindowLoader


def expected_ends(
    rows, *, window, horizon, stride=1, series=None, span=None, embargo=0, valid=None,
    label_nan=(), row_nan=(), nan="error",
):  # fmt: skip
    """Last rows of the windows, one candidate at a time."""
    ends = []
    offsets = [0, rows] if series is None else series
    for s, (low, high) in enumerate(pairwise(offsets)):
        first, stop = low, high
        if span is not None:
            begin, end = span if np.ndim(span) == 1 else span[s]
            if begin > low:
                first = begin + embargo if begin < high else begin
            stop = min(high, end)
        start = first
        while start + window + horizon <= stop:
            end = start + window - 1
            ok = valid is None or valid[end]
            ok = ok and end + horizon not in label_nan
            if nan == "drop":
                ok = ok and not any(row in row_nan for row in range(start, end + 1))
            if ok:
                ends.append(end)
            start += stride
    return ends


@st.composite
def layouts(draw):
    rows = draw(st.integers(1, 70))
    cuts = draw(st.lists(st.integers(0, rows), max_size=4))
    series = draw(st.sampled_from([None, sorted([0, *cuts, rows])]))
    span = None
    if draw(st.booleans()):
        count = 1 if series is None else len(series) - 1
        pairs = draw(
            st.lists(
                st.tuples(st.integers(0, rows), st.integers(0, rows)).map(sorted),
                min_size=count,
                max_size=count,
            )
        )
        span = pairs if draw(st.booleans()) else pairs[0]
    return {
        "rows": rows,
        "series": series,
        "span": span,
        "embargo": draw(st.integers(0, 5)) if span is not None else 0,
        "window": draw(st.integers(1, min(8, rows))),
        "horizon": draw(st.integers(0, 4)),
        "stride": draw(st.integers(1, 5)),
        "valid": draw(
            st.none() | st.lists(st.booleans(), min_size=rows, max_size=rows).map(np.array)
        ),
    }


def yielded(loader):
    """Last rows in the order of the batches; every row and label is looked at."""
    ends = []
    for x, y, index in loader:
        for one, label, end in zip(x.numpy(), y.numpy(), index.tolist(), strict=True):
            window = loader._plan.window
            assert np.array_equal(one[:, 0], np.arange(end - window + 1, end + 1))
            assert label[0] == 1000 + end + loader._plan.horizon
            ends.append(end)
    return ends


def loader_of(rows, **arguments):
    X = np.repeat(np.arange(rows, dtype=np.float32)[:, None], 2, axis=1)
    y = 1000 + np.arange(rows, dtype=np.float64)
    return WindowLoader(X, y, return_index=True, **arguments)


@given(
    layout=layouts(),
    batch_size=st.integers(1, 9),
    shuffle=st.sampled_from([False, True, "block"]),
    world_size=st.integers(1, 4),
)
def test_every_window_exactly_once_over_all_ranks(layout, batch_size, shuffle, world_size):
    expected = expected_ends(**layout)
    if not expected:
        with pytest.raises(ValueError, match="no window"):
            loader_of(**layout)
        return
    ends = []
    for rank in range(world_size):
        loader = loader_of(
            **layout,
            batch_size=batch_size,
            shuffle=shuffle,
            rank=rank,
            world_size=world_size,
        )
        own = yielded(loader)
        assert len(own) == loader.windows
        assert sum(1 for _ in loader) == len(loader)
        ends += own
    assert sorted(ends) == expected
    if not shuffle and world_size == 1:
        assert ends == expected


@given(layout=layouts(), cut=st.integers(0, 70), embargo=st.integers(0, 4))
def test_spans_on_either_side_of_a_cut_share_no_row(layout, cut, embargo):
    rows, reach = layout["rows"], layout["window"] + layout["horizon"]
    cut = min(cut, rows)
    touched = []
    for span in ((0, cut), (cut, rows)):
        arguments = layout | {"span": span, "embargo": embargo}
        try:
            ends = yielded(loader_of(**arguments))
        except ValueError:
            return
        assert ends == expected_ends(**arguments)
        last = [end + layout["horizon"] for end in ends]
        touched.append({row for end in last for row in range(end - reach + 1, end + 1)})
    train, validation = touched
    assert not train & validation
    series = layout["series"] or [0, rows]
    cut_inside = any(low < cut < high for low, high in pairwise(series))
    if cut_inside:
        assert min(validation) >= cut
        low, high = next(pair for pair in pairwise(series) if pair[0] < cut < pair[1])
        inside = {row for row in validation if low <= row < high}
        assert not inside or min(inside) >= cut + embargo


@given(
    layout=layouts(),
    data=st.data(),
    nan=st.sampled_from(["error", "mask", "drop"]),
)
def test_nans_in_rows_and_labels(layout, data, nan):
    rows = layout["rows"]
    some_rows = st.lists(st.integers(0, rows - 1), max_size=3)
    row_nan, label_nan = data.draw(some_rows), data.draw(some_rows)
    X = np.repeat(np.arange(rows, dtype=np.float32)[:, None], 2, axis=1)
    y = 1000 + np.arange(rows, dtype=np.float64)
    X[row_nan, 1] = np.nan
    y[label_nan] = np.nan
    arguments = {name: value for name, value in layout.items() if name != "rows"}
    every = expected_ends(**layout)
    clean = expected_ends(**layout, label_nan=label_nan, row_nan=row_nan, nan="drop")
    kept = {
        "error": every,
        "drop": clean,
        "mask": expected_ends(**layout, label_nan=label_nan),
    }[nan]
    if not kept or (nan == "error" and clean != every):
        with pytest.raises(ValueError, match=r"no window|nan: .* have a NaN"):
            WindowLoader(X, y, nan=nan, **arguments)
        return
    loader = WindowLoader(X, y, nan=nan, batch_size=4, return_index=True, **arguments)
    ends = []
    for batch in loader:
        x, label, index = batch[0].numpy(), batch[1].numpy()[:, 0], batch[-1].numpy()
        covered = index[:, None] + np.arange(1 - layout["window"], 1)
        assert np.array_equal(label, 1000 + index + layout["horizon"])
        assert np.array_equal(x, np.nan_to_num(X[covered]))
        if nan == "mask":
            assert np.array_equal(batch[2].numpy(), ~np.isnan(X[covered]).any(axis=2))
        ends += index.tolist()
    assert ends == kept


def test_a_nan_is_named_with_the_ways_out():
    X = np.zeros((20, 2), np.float32)
    X[7, 1] = np.nan
    with pytest.raises(ValueError, match=r"nan: 4 of 17 windows .* in X is in row 7; nan=.drop."):
        WindowLoader(X, np.zeros(20), window=4)
    X[7, 1] = np.inf
    assert len(WindowLoader(X, np.zeros(20), window=4, batch_size=1)) == 17
