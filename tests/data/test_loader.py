import gc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tfa_perf.data.loader import DeviceWindows, HostWindows, WindowLoader


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


def test_only_the_given_ends_are_yielded():
    X, y = table()
    loader = WindowLoader(X, y, window=4, ends=np.array([30, 3, 7]), batch_size=2)
    assert [int(w[-1, 0]) // 3 for x, _ in loader for w in x] == [30, 3, 7]


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
    source = HostWindows(X, y, 5)
    ends = np.arange(10, 20)
    addresses = set()
    for _ in range(20):
        x, _ = source.batch(ends)
        addresses.add(x.data_ptr())
        del x
    assert len(addresses) == 1
    held = [source.batch(ends)[0] for _ in range(30)]
    assert len({x.data_ptr() for x in held}) == 30
    del held
    gc.collect()
    assert len(source._buffers) <= 8


def test_device_windows_equal_host_windows():
    X, y = table(90)
    ends = np.array([8, 3, 88, 89, 50])
    x_host, y_host = HostWindows(X, y, 4).batch(ends)
    x_device, y_device = DeviceWindows(X, y, 4, device="cpu").batch(ends)
    assert torch.equal(x_host, x_device)
    assert torch.equal(y_host, y_device)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_loader_on_a_gpu_yields_the_same_batches():
    X, y = table(90)
    loaders = [
        WindowLoader(X, y, window=4, batch_size=16, shuffle=True, device=device)
        for device in ("cpu", "cuda")
    ]
    for (x_host, y_host), (x_device, y_device) in zip(*loaders, strict=True):
        assert x_device.is_cuda
        assert torch.equal(x_host, x_device.cpu())
        assert torch.equal(y_host, y_device.cpu())


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
        ({"ends": np.array([3, 1])}, ValueError, r"ends\[1\] = 1"),
        ({"ends": np.array([40])}, ValueError, r"ends\[0\] = 40: .* from 3 to 39"),
        ({"ends": np.array([-1])}, ValueError, r"ends\[0\] = -1"),
        ({"ends": np.array([3.0])}, TypeError, "ends: a 1-D integer"),
        ({"ends": np.array([[3]])}, TypeError, "ends: a 1-D integer"),
        ({"X": np.zeros((40, 3))}, TypeError, "X: a float32 array"),
        ({"X": [[1.0]]}, TypeError, "X: .* got list"),
        ({"X": np.zeros((3, 40), np.float32).T}, ValueError, "ascontiguousarray"),
        ({"y": np.zeros(39, np.float32)}, TypeError, r"y: a float32 array \[40\]"),
        ({"y": None}, TypeError, "y: .* got NoneType"),
    ],
)
def test_bad_arguments_are_named(change, error, words):
    X, y = table()
    arguments = {"X": X, "y": y, "window": 4} | change
    with pytest.raises(error, match=words):
        WindowLoader(arguments.pop("X"), arguments.pop("y"), **arguments)
