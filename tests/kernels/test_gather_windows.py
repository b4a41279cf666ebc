"""gather_windows against the oracle, and everything it must refuse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfa_kernels import gather_windows, reference, windows
from tfa_kernels.windows import WindowGather

DTYPES = ["float16", "float32", "float64", "int8", "uint16", "int64", "bool", "complex128"]


def table(rows, columns, dtype="float32", seed=0):
    return np.random.default_rng(seed).integers(0, 100, (rows, columns)).astype(dtype)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), dtype=st.sampled_from(DTYPES), columns=st.integers(0, 9))
def test_matches_oracle(data, dtype, columns):
    rows = data.draw(st.integers(1, 40))
    window = data.draw(st.integers(1, rows))
    starts = data.draw(st.lists(st.integers(0, rows - window), max_size=20))
    X = table(rows, columns, dtype)
    got = gather_windows(X, np.array(starts, np.int64), window)
    assert got.dtype == X.dtype
    assert got.shape == (len(starts), window, columns)
    assert np.array_equal(got, reference.gather_windows(X, starts, window))


@pytest.mark.parametrize("dtype", ["int8", "int32", "uint8", "uint64"])
def test_integer_starts_of_any_width(dtype):
    X = table(50, 3)
    starts = np.array([0, 47, 3, 3], dtype)
    assert np.array_equal(gather_windows(X, starts, 3), reference.gather_windows(X, starts, 3))
    strided = np.array([0, 9, 47, 9], dtype)[::2]
    assert np.array_equal(gather_windows(X, strided, 3), reference.gather_windows(X, strided, 3))


@pytest.mark.parametrize(
    ("starts", "message"),
    [
        ([0, 3, -1, 99], r"starts\[2\] is -1; allowed: 0..7"),
        ([8], r"starts\[0\] is 8; allowed: 0..7"),
        (np.array([0, 2**64 - 1], np.uint64), r"starts\[1\] is \d+; allowed"),
        (np.array([0, -(2**63)]), r"starts\[1\] is -\d+; allowed"),
        ([0.0, 1.0], "integer dtype"),
        ([True], "integer dtype"),
        ([[0]], "1-D"),
        (3, "1-D"),
    ],
)
def test_bad_starts_leave_out_alone(starts, message):
    X = table(10, 2)
    out = np.full((np.size(starts), 3, 2), -1, np.float32)
    with pytest.raises((ValueError, TypeError), match=message):
        gather_windows(X, starts, 3, out)
    assert (out == -1).all()


@pytest.mark.parametrize("window", [0, -1, 11, 2**70, True, 2.0, None])
def test_bad_window(window):
    with pytest.raises((ValueError, TypeError), match="window"):
        gather_windows(table(10, 2), [0], window)


def test_bad_tables():
    X = table(10, 4)
    for bad, message in [
        (X.T, "np.ascontiguousarray"),
        (X[:, ::2], "np.ascontiguousarray"),
        (X[0], "2-D"),
        (X.tolist(), "numpy array"),
        (X.astype(object), "numeric dtype"),
        (X.astype("U3"), "numeric dtype"),
        (np.zeros((10, 4), "datetime64[s]"), "numeric dtype"),
    ]:
        with pytest.raises((ValueError, TypeError), match=message):
            gather_windows(bad, [0], 2)


def test_out():
    X = table(20, 3)
    starts = [4, 0, 15]
    want = reference.gather_windows(X, starts, 5)
    out = np.empty((3, 5, 3), np.float32)
    assert gather_windows(X, starts, 5, out) is out
    assert np.array_equal(out, want)
    frozen = out.copy()
    frozen.flags.writeable = False
    for bad, message in [
        (np.empty((3, 5, 4), np.float32), "shape"),
        (np.empty((3, 5, 3), np.float64), "dtype"),
        (np.empty((3, 5, 3), ">f4"), "dtype"),
        (np.empty((3, 3, 5), np.float32).transpose(0, 2, 1), "C-contiguous"),
        (frozen, "read-only"),
        (out.tolist(), "numpy array"),
    ]:
        with pytest.raises((ValueError, TypeError), match=message):
            gather_windows(X, starts, 5, bad)
    with pytest.raises(ValueError, match="overlaps X"):
        gather_windows(X, [0], 5, X[5:10].reshape(1, 5, 3))


def test_read_only_memmap(tmp_path):
    X = table(30, 3)
    X.tofile(tmp_path / "x")
    stored = np.memmap(tmp_path / "x", np.float32, "r", shape=(30, 3))
    assert np.array_equal(gather_windows(stored, [2, 20], 4), gather_windows(X, [2, 20], 4))


def test_num_threads_is_checked():
    for bad, error in [(0, ValueError), (10**6, ValueError), (1.0, TypeError), (True, TypeError)]:
        with pytest.raises(error, match="num_threads"):
            gather_windows(table(5, 2), [0], 2, num_threads=bad)


@pytest.fixture
def stream_from_1_mb(monkeypatch):
    """Batches go past the caches that are smaller than those that do."""
    monkeypatch.setattr(windows, "_STREAM_BYTES", 2**20)


@pytest.mark.parametrize("threads", [1, None])
@pytest.mark.parametrize("columns", [1, 55, 64])
def test_a_batch_larger_than_the_caches(columns, threads, stream_from_1_mb):
    X = table(3000, columns)
    starts = np.random.default_rng(1).integers(0, 2900, 20_000 // columns + 200)
    # Any address that float32 may have: lines of out begin anywhere in a window.
    memory = np.full(starts.size * 64 * columns + 32, -1, np.float32)
    for skip in (0, 3, 8):
        out = memory[skip : skip + starts.size * 64 * columns].reshape(-1, 64, columns)
        gather_windows(X, starts, 64, out, num_threads=threads)
        assert out.nbytes > 2**20
        assert np.array_equal(out, X[starts[:, None] + np.arange(64)])
        assert (memory[skip + out.size :] == -1).all()


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("out_dtype", ["float16", "float32", "float64", "uint16"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint16"])
def test_conversion_on_the_way(dtype, out_dtype, scaled, large, stream_from_1_mb):
    rng = np.random.default_rng(2)
    single = rng.standard_normal((400, 13)).astype(np.float32)
    single[5, 3], single[6, 4], single[7, 5] = np.nan, np.inf, 1e38

    def bfloat16(values):
        bits = values.view(np.uint32).astype(np.uint64)
        rounded = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
        return np.where(np.isnan(values), np.uint16(0x7FC0), rounded)

    with np.errstate(over="ignore"):
        X = bfloat16(single) if dtype == "uint16" else single.astype(dtype)
    widened = (X.astype(np.uint32) << 16).view(np.float32) if dtype == "uint16" else X
    shift, factor = single[0], single[1]
    gather = WindowGather(
        X, 9, dtype=out_dtype, **({"shift": shift, "factor": factor} if scaled else {})
    )
    starts = rng.integers(0, 392, 6000 if large else 20)
    values = widened.astype(np.float32)[starts[:, None] + np.arange(9)]
    with np.errstate(over="ignore", invalid="ignore"):
        values = (values - shift) * factor if scaled else values
        want = bfloat16(values) if out_dtype == "uint16" else values.astype(out_dtype)
    out = np.empty(want.shape, want.dtype)
    gather.fill(starts, out.reshape(-1).view(np.uint8))
    assert np.array_equal(out, want, equal_nan=out_dtype != "uint16")


def test_conversion_refuses_what_it_cannot_do():
    X = table(20, 3)
    for arguments, message in [
        ({"dtype": "int32"}, "out must be a float32"),
        ({"shift": np.zeros(3)}, "shift and factor go together"),
        ({"shift": np.zeros(2), "factor": np.ones(3)}, "shift must be 3 finite numbers"),
        ({"shift": np.zeros(3), "factor": [1, np.inf, 1]}, "factor must be 3 finite numbers"),
    ]:
        with pytest.raises((TypeError, ValueError), match=message):
            WindowGather(X, 4, **arguments)
    gather = WindowGather(X, 4, dtype="float16")
    with pytest.raises(ValueError, match="out must be 24 bytes in a row"):
        gather.fill([0], np.zeros(48, np.uint8))


@pytest.mark.parametrize("count", [0, 1, 20, 6000])
@pytest.mark.parametrize("label_dtype", ["bool", "int16", "float32", "float64"])
@pytest.mark.parametrize("out_dtype", [None, "float16"])
def test_labels_with_the_windows(out_dtype, label_dtype, count, stream_from_1_mb):
    X, labels = table(400, 13), np.arange(400).astype(label_dtype)
    labels.flags.writeable = False
    gather = WindowGather(X, 9, dtype=out_dtype, labels=labels, horizon=5)
    starts = gather.checked(np.random.default_rng(3).integers(0, 387, count))
    out = np.empty((count, 9, 13), out_dtype or X.dtype)
    got = np.full(count + 2, 77, label_dtype)
    gather.fill_checked(
        starts, out.reshape(-1).view(np.uint8), got[1:-1].reshape(-1).view(np.uint8)
    )
    assert np.array_equal(got[1:-1], labels[starts + 13])
    assert got[0] == got[-1] == np.array(77).astype(label_dtype)
    assert np.array_equal(out, X[starts[:, None] + np.arange(9)])
    out[:] = 0
    gather.fill_checked(starts, out.reshape(-1).view(np.uint8))
    assert np.array_equal(out, X[starts[:, None] + np.arange(9)])


def test_labels_that_do_not_fit_are_refused():
    X, y = table(20, 3), np.zeros(20, np.float32)
    for labels, horizon, message in [
        (y[:-1], 0, "one for each of the 20 rows"),
        (np.zeros(40)[::2], 0, r"np\.ascontiguousarray"),
        (y.tolist(), 0, "got list"),
        (y.astype(object), 0, "numeric"),
        (y, 17, r"horizon is 17; allowed: 0\.\.16"),
        (y, -1, "horizon is -1"),
        (y, 1.0, "horizon must be an int"),
    ]:
        with pytest.raises((TypeError, ValueError), match=message):
            WindowGather(X, 4, labels=labels, horizon=horizon)
    gather = WindowGather(X, 4, labels=y, horizon=2)
    with pytest.raises(ValueError, match=r"starts\[1\] is 15; allowed: 0\.\.14"):
        gather.checked([14, 15])
    with pytest.raises(ValueError, match="label_out must be 4 bytes in a row"):
        gather.fill_checked(gather.checked([0]), np.zeros(48, np.uint8), np.zeros(8, np.uint8))


def test_a_table_of_more_than_2_to_the_31_values(tmp_path):
    # Sparse: the file takes the few pages that are written.
    rows, columns = 40_000_000, 55
    assert rows * columns > 2**31
    file = tmp_path / "table"
    with file.open("wb") as opened:
        opened.truncate(rows * columns * 4)
    X = np.memmap(file, np.float32, "r+", shape=(rows, columns))
    starts = np.array([rows - 4, 0, 2**31 // columns - 1, rows // 2])
    for start in starts:
        X[start : start + 4] = start + np.arange(4 * columns).reshape(4, columns)
    X.flush()
    table = np.memmap(file, np.float32, "r", shape=(rows, columns))
    np.testing.assert_array_equal(
        gather_windows(table, starts, 4), reference.gather_windows(table, starts, 4)
    )
    with pytest.raises(ValueError, match="starts"):
        gather_windows(table, [rows - 3], 4)
