"""The legacy data set's batches, made by the gather."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from tfa_perf.baseline.windows import SeqWindows as Legacy
from tfa_perf.compat import SeqWindows

X = np.random.default_rng(0).standard_normal((90, 5), dtype=np.float32)
Y = np.arange(90, dtype=np.float32)[:, None]


def batches(windows):
    # The legacy class overwrites its buffer.
    return [(x.clone(), y.clone()) for x, y in windows]


def assert_equal(found, wanted):
    assert len(found) == len(wanted)
    for (x, y), (other_x, other_y) in zip(found, wanted, strict=True):
        assert x.dtype == y.dtype == torch.float32
        assert torch.equal(x.nan_to_num(7e7), other_x.nan_to_num(7e7))
        assert torch.equal(y, other_y)


@settings(max_examples=40)
@given(st.data())
def test_every_batch_is_the_legacy_one(data):
    T = data.draw(st.integers(1, 30))
    start = data.draw(st.integers(T - 1, 89))
    arguments = X, Y, T, start, data.draw(st.integers(start - 2, 89)), data.draw(st.integers(1, 40))
    assert_equal(batches(SeqWindows(*arguments)), batches(Legacy(*arguments)))


@pytest.mark.parametrize("dtype", ["float64", "float16", "int32", ">f4", "bool"])
def test_any_numbers_become_float32(dtype):
    table = (10 * X).astype(dtype)
    found = batches(SeqWindows(table, Y.astype("int64"), 4, 3, 20, 7))
    assert_equal(found, batches(Legacy(table, Y.astype("int64"), 4, 3, 20, 7)))


def test_columns_of_a_wider_table_nan_and_flat_labels():
    wide = X.copy()
    wide[10, 1] = np.nan
    found = batches(SeqWindows(wide[:, ::2], Y[:, 0], 4, 3, 20, 7))
    assert_equal(found, batches(Legacy(wide[:, ::2], Y, 4, 3, 20, 7)))
    wide[10, 2] = np.nan
    assert_equal(batches(SeqWindows(wide, Y, 4, 3, 20, 7)), batches(Legacy(wide, Y, 4, 3, 20, 7)))


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_share_the_range_and_held_batches_stay(workers, tmp_path):
    np.save(tmp_path / "X.npy", X)
    data = SeqWindows(np.load(tmp_path / "X.npy", mmap_mode="r"), Y, 6, 5, 88, 8)
    # Ten and a half batches: the workers' shares differ.
    loader = DataLoader(data, batch_size=None, num_workers=workers)
    wanted = batches(Legacy(X, Y, 6, 5, 88, 8))
    for _ in range(2):
        assert_equal(list(loader), wanted)


def test_a_spawned_worker_maps_the_file_again(tmp_path):
    np.save(tmp_path / "X.npy", X)
    data = SeqWindows(np.load(tmp_path / "X.npy", mmap_mode="r"), Y, 6, 5, 88, 8)
    state = data.__getstate__()
    assert state["X"] is None
    again = SeqWindows.__new__(SeqWindows)
    again.__setstate__(state)
    assert isinstance(again.X, np.memmap)
    assert_equal(list(again), batches(data))


def test_attributes_may_change_between_passes():
    data = SeqWindows(X, Y, 6, 5, 88, 8)
    list(data)
    data.T, data.start, data.end, data.batch = 3, 40, 60, 4
    assert_equal(batches(data), batches(Legacy(X, Y, 3, 40, 60, 4)))
    data.end = 90
    with pytest.raises(ValueError, match="end is 90"):
        iter(data)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"start": 4}, "start is 4, where no window of T = 6 rows ends; give 5 or more"),
        ({"end": 90}, "end is 90, but the last row"),
        ({"T": 0}, "T: 1 or more"),
        ({"batch": 0}, "batch: 1 or more"),
        ({"batch": 2.5}, "batch: an int is needed, got 2.5"),
        ({"X": X[0]}, r"X: \[N, F\] is needed"),
        ({"X": X.astype(str)}, "X: numbers are needed"),
        ({"y": Y[:50]}, r"y \(50\) is 49"),
        ({"y": np.zeros((90, 1, 1))}, "y: "),
    ],
)
def test_bad_arguments_are_named(change, words):
    arguments = {"X": X, "y": Y, "T": 6, "start": 5, "end": 88, "batch": 8} | change
    with pytest.raises((ValueError, TypeError), match=words):
        SeqWindows(**arguments)
