import gc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tfa_perf.data.host_windows import HostWindows
from tfa_perf.data.loader import WindowLoader
from tfa_perf.data.table import Table, WindowForm


def table(rows=40, features=3):
    X = np.arange(rows * features, dtype=np.float32).reshape(rows, features)
    return X, (np.arange(rows) % 2).astype(np.float32)


@given(
    rows=st.integers(1, 60),
    window=st.integers(1, 10),
    batch_size=st.integers(1, 20),
    shuffle=st.booleans(),
    drop_last=st.booleans(),
)
def test_every_window_once_with_its_label(rows, window, batch_size, shuffle, drop_last):
    if window > rows:
        return
    X, y = table(rows)
    loader = WindowLoader(
        X, y, window=window, batch_size=batch_size, shuffle=shuffle, drop_last=drop_last
    )
    batches = [(x.clone(), labels) for x, labels in loader]
    assert len(batches) == len(loader)
    assert sum(len(x) for x, _ in batches) == loader.windows
    ends = []
    for x, labels in batches:
        for one, label in zip(x.numpy(), labels, strict=True):
            end = int(one[-1, 0]) // X.shape[1]
            assert np.array_equal(one, X[end - window + 1 : end + 1])
            assert label.item() == y[end]
            ends.append(end)
    expected = list(range(window - 1, rows))
    if drop_last:
        assert len(ends) == len(expected) // batch_size * batch_size
        assert len(set(ends)) == len(ends)
    else:
        assert sorted(ends) == expected
    if not shuffle:
        assert ends == expected[: len(ends)]


def test_only_windows_that_may_end_there_are_yielded():
    X, y = table()
    valid = np.zeros(40, bool)
    valid[[30, 3, 7, 2]] = True
    loader = WindowLoader(X, y, window=4, valid=valid, batch_size=2)
    assert [int(w[-1, 0]) // 3 for x, _ in loader for w in x] == [3, 7, 30]


def test_order_depends_on_seed_and_epoch_alone():
    X, y = table(500)

    def order(seed, epoch):
        loader = WindowLoader(X, y, window=2, batch_size=50, shuffle=True, seed=seed)
        loader.set_epoch(epoch)
        return [int(w[-1, 0]) for x, _ in loader for w in x]

    assert order(0, 3) == order(0, 3)
    assert order(0, 3) != order(0, 4)
    assert order(0, 3) != order(1, 3)


def test_a_kept_batch_is_never_overwritten():
    X, y = table(400)
    loader = WindowLoader(X, y, window=5, batch_size=7, shuffle=True)
    # A slice, a view of a view and a numpy array each keep the buffer; so does autograd.
    kept, copies = [], []
    for epoch in range(3):
        loader.set_epoch(epoch)
        for i, (x, _) in enumerate(loader):
            part = (x, x[:3], x.view(-1)[1:4], x.numpy()[-1])[i % 4]
            kept.append(part)
            copies.append(np.asarray(part).copy())
    for part, copy in zip(kept, copies, strict=True):
        assert np.array_equal(np.asarray(part), copy)


def test_autograd_keeps_the_batch_it_needs():
    X, y = table(60)
    weight = torch.ones(3, requires_grad=True)
    losses = []
    expected = torch.zeros(3)
    for x, _ in WindowLoader(X, y, window=4, batch_size=8):
        expected += x.sum((0, 1))
        losses.append((x * weight).sum())
    sum(losses).backward()
    torch.testing.assert_close(weight.grad, expected)


def test_dropped_batches_share_memory():
    X, y = table(400)
    source = HostWindows(Table.of(X, y), WindowForm(5, 0, torch.float32))
    ends = np.arange(10, 20)

    def batch():
        return next(source.batches(ends, [10]))[0]

    addresses = set()
    for _ in range(20):
        x = batch()
        addresses.add(x.data_ptr())
        del x
    assert len(addresses) == 1
    held = [batch() for _ in range(30)]
    assert len({x.data_ptr() for x in held}) == 30
    del held
    gc.collect()
    assert len(source._pool._buffers) <= 8


def test_read_only_memory_map(tmp_path):
    X, y = table(50)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    batches = [x.clone() for x, _ in WindowLoader(mapped, y, window=3, batch_size=9)]
    assert torch.equal(torch.cat(batches)[:, -1], torch.from_numpy(X[2:]))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"window": 0}, ValueError, "window: an integer from 1 to 40"),
        ({"window": 41}, ValueError, "window: .* got 41"),
        ({"window": 2.5}, ValueError, "window: .* got 2.5"),
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"window": True}, ValueError, "window: .* got True"),
        ({"horizon": -1}, ValueError, "horizon"),
        ({"horizon": 37}, ValueError, "no window: 40 rows hold none of 4 rows"),
        ({"stride": 0}, ValueError, "stride"),
        ({"embargo": 2}, ValueError, "embargo is 2, but there is no span"),
        ({"series": [0, 30]}, ValueError, "series: boundaries must rise from 0 to the 40 rows"),
        ({"series": [0, 30, 20, 40]}, ValueError, "series: boundaries must rise"),
        ({"series": np.zeros(40)}, TypeError, "series: .* got float64"),
        ({"span": (0, 41)}, ValueError, r"span: 0, 41 is not inside 0\.\.40"),
        ({"span": (5, 3)}, ValueError, "span: 5, 3"),
        ({"span": 0.8}, TypeError, "span: a pair"),
        ({"valid": np.zeros(40, bool)}, ValueError, "no window"),
        ({"valid": np.zeros(39, bool)}, TypeError, "valid: a bool for each of the 40 rows"),
        ({"valid": np.zeros(40)}, TypeError, "valid: .* got float64"),
        ({"nan": "skip"}, ValueError, "nan: .* got 'skip'"),
        ({"shuffle": "blocks"}, ValueError, "shuffle: .* got 'blocks'"),
        ({"shuffle": True, "sampler": [1]}, ValueError, "sampler"),
        ({"seed": -1}, ValueError, "seed"),
        ({"prefetch": -1}, ValueError, "prefetch"),
        ({"rank": 1}, ValueError, "rank, world_size: give both"),
        ({"rank": 2, "world_size": 2}, ValueError, "rank: an integer from 0 to 1"),
        ({"dtype": torch.int32}, TypeError, "dtype: .* got torch.int32"),
        ({"num_threads": 0}, ValueError, "num_threads"),
        ({"X": np.zeros((40, 3), np.int32)}, TypeError, "X: .* got int32"),
        ({"X": np.zeros((40, 3), ">f4")}, TypeError, "X: .* got >f4"),
        ({"X": [[1.0]]}, TypeError, "X: .* got list"),
        ({"X": np.zeros((3, 40), np.float32).T}, ValueError, r"pass np\.ascontiguousarray\(X\)"),
        ({"X": torch.zeros(3, 40).T}, ValueError, r"pass X\.contiguous\(\)"),
        ({"X": np.zeros(40, np.float32)}, TypeError, r"X: .* got float32 \(40,\)"),
        ({"y": np.zeros(39, np.float32)}, TypeError, r"y: an array \[40\]"),
        ({"y": np.zeros(40, object)}, TypeError, "y: labels must be"),
        ({"y": None}, TypeError, "y: .* got NoneType"),
    ],
)
def test_bad_arguments_are_named(change, error, words):
    X, y = table()
    arguments = {"X": X, "y": y, "window": 4} | change
    with pytest.raises(error, match=words):
        WindowLoader(arguments.pop("X"), arguments.pop("y"), **arguments)
