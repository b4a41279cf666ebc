"""Windows made on a device: equal to those of the CPU, to the bit, in every mode."""

import logging

import numpy as np
import pytest
import torch

from tfa_perf.data.device_windows import ResidentWindows, spaced_columns
from tfa_perf.data.host_windows import HostWindows
from tfa_perf.data.loader import WindowLoader
from tfa_perf.data.sent_windows import PinnedRing, SentWindows
from tfa_perf.data.table import Table, WindowForm

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
DEVICES = ["cpu", pytest.param("cuda", marks=cuda)]
FLOATS = [torch.float32, torch.float16, torch.bfloat16, torch.float64]


def rows_and_labels(rows=300, columns=5, nans=False):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((rows, columns), dtype=np.float32)
    if nans:
        X[rng.integers(0, rows, 9), 1] = np.nan
        X[rng.integers(0, rows, 9), 2] = np.inf
    return X, rng.standard_normal(rows).astype(np.float32)


def same(a, b):
    """Equal to the bit, NaN where NaN."""
    return len(a) == len(b) and all(
        torch.equal(p.cpu(), q.cpu())
        or torch.allclose(p.cpu().double(), q.cpu().double(), 0, 0, equal_nan=True)
        for p, q in zip(a, b, strict=True)
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("source_dtype", FLOATS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_every_source_gives_the_bits_of_the_cpu(device, scaled, masked, source_dtype, dtype):
    if scaled and source_dtype is not torch.float32:
        pytest.skip("a scaler comes with a store, whose features are float32")
    X, y = rows_and_labels(nans=masked)
    given = Table.of(torch.from_numpy(X).to(source_dtype), y)
    shift, factor = (X[10:11].copy()[0], np.full(5, 0.37, np.float32)) if scaled else (None, None)
    table = Table(given.X, given.y, given.dtype, shift, factor)
    unmasked = ~np.isnan(X).any(axis=1) if masked else None
    form = WindowForm(7, 2, dtype, unmasked, index=True)
    device = torch.device(device)
    orders = (np.arange(20, 90), np.array([297, 6, 150, 6, 33]), np.array([50, 51, 52, 55, 54]))
    host = HostWindows(table, form)
    for source in (ResidentWindows(table, form, device), SentWindows(table, form, device)):
        for ends in orders:
            (wanted,) = host.batches(ends, [len(ends)])
            (got,) = source.batches(ends, [len(ends)])
            if isinstance(source, SentWindows):
                got = source.deliver(got)
            assert all(part.device.type == device.type for part in got)
            assert [part.dtype for part in got] == [part.dtype for part in wanted]
            assert same(got, wanted)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("columns", [1, 5, 16, 55])
@pytest.mark.parametrize("masked", [False, True])
def test_operands_are_the_windows_rounded(device, columns, masked):
    X, y = rows_and_labels(columns=max(columns, 3), nans=masked)
    X = X[:, :columns].copy()
    scale = X[0].copy(), np.full(columns, 0.37, np.float32)
    given = Table.of(X, y)
    table = Table(given.X, given.y, given.dtype, *scale)
    unmasked = ~np.isnan(X).any(axis=1) if masked else None
    form = WindowForm(7, 2, torch.float32, unmasked)
    source = ResidentWindows(table, form, torch.device(device))
    ends = torch.tensor([6, 297, 150, 6, 151], device=device)
    want = source.windows(ends)
    for dtype in (torch.bfloat16, torch.float16):
        got = source.operands(dtype)(ends)
        assert same(got, [want[0].to(dtype), *want[1:]])
        if source._gather._triton is not None:
            wide = spaced_columns(columns)
            assert got[0].stride() == (7 * wide, wide, 1)


def test_rows_are_spaced_by_powers_of_2():
    assert [spaced_columns(n) for n in (1, 16, 17, 55, 64, 65, 128)] == [
        16, 16, 32, 64, 64, 128, 128,
    ]  # fmt: skip


@pytest.mark.parametrize("device", DEVICES)
def test_the_rows_of_a_batch_in_order_are_sent_once(device, monkeypatch):
    X, y = rows_and_labels()
    table, sizes = Table.of(X, y), []
    send = PinnedRing.send
    monkeypatch.setattr(
        PinnedRing,
        "send",
        lambda self, shape, *rest: sizes.append(shape) or send(self, shape, *rest),
    )
    source = SentWindows(table, WindowForm(16, 0, torch.float32), torch.device(device))
    source.batch(np.arange(100, 164))
    source.batch(np.array([20, 280]))
    assert sizes == [(64 + 15, 5), (2, 16, 5)]


@cuda
@pytest.mark.parametrize("shuffle", [False, True, "block"])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_loader_on_a_gpu_yields_the_batches_of_the_cpu(shuffle, dtype):
    X, y = rows_and_labels(5000)
    form = {"window": 12, "batch_size": 300, "shuffle": shuffle, "dtype": dtype, "horizon": 1}
    there = WindowLoader(X, y, device="cuda", return_index=True, **form)
    assert there.mode == "device-resident"
    for wanted, got in zip(WindowLoader(X, y, return_index=True, **form), there, strict=True):
        assert got[0].is_cuda
        assert same(got, wanted)


@cuda
def test_a_table_that_is_on_the_gpu_stays_where_it_is():
    X, y = rows_and_labels(1000)
    there = torch.from_numpy(X).cuda()
    before = torch.cuda.memory_allocated()
    loader = WindowLoader(there, torch.from_numpy(y).cuda(), window=3, device="cuda")
    assert torch.cuda.memory_allocated() - before < X.nbytes / 2
    for wanted, got in zip(WindowLoader(X, y, window=3), loader, strict=True):
        assert same(got, wanted)
    with pytest.raises(ValueError, match="X: is on cuda:0, batches are wanted on cpu"):
        WindowLoader(there, y, window=3)


@cuda
def test_triton_and_torch_give_the_same_bits(monkeypatch):
    X, y = rows_and_labels(2000, 55)
    loader = WindowLoader(X, y, window=48, shuffle=True, device="cuda", dtype=torch.bfloat16)
    assert loader._source._gather._triton is not None
    by_triton = list(loader)
    loader._source._gather._triton = None
    assert all(same(a, b) for a, b in zip(by_triton, loader, strict=True))


@cuda
def test_nothing_waits_for_the_device():
    X, y = rows_and_labels(20_000)
    loader = WindowLoader(X, y, window=8, batch_size=256, shuffle=True, device="cuda")
    total = torch.zeros((), device="cuda")
    next(iter(loader))
    torch.cuda.set_sync_debug_mode("error")
    try:
        for x, labels in loader:
            total += x.sum() + labels.sum()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.isfinite(total)


@cuda
@pytest.mark.parametrize("shuffle", [False, True])
def test_a_table_that_does_not_fit_is_sent_and_says_so(shuffle, caplog):
    X, y = rows_and_labels(400_000, 50)
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 60e6) / total)
    try:
        with caplog.at_level(logging.WARNING, "tfa_perf.data.loader"):
            loader = WindowLoader(
                X, y, window=8, batch_size=512, shuffle=shuffle, device="cuda", return_index=True
            )
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert loader.mode == ("pinned windows" if shuffle else "streamed rows")
    assert loader.mode in caplog.text and "does not fit" in caplog.text
    host = WindowLoader(X, y, window=8, batch_size=512, shuffle=shuffle, return_index=True)
    stop = 40
    for i, (wanted, got) in enumerate(zip(host, loader, strict=True)):
        assert same(got, wanted)
        if i == stop:
            break


@cuda
@pytest.mark.parametrize("ends", ["in order", "anywhere"])
def test_kept_batches_are_never_overwritten_by_later_ones(ends):
    X, y = rows_and_labels(30_000)
    table, form = Table.of(X, y), WindowForm(16, 0, torch.float32)
    source = SentWindows(table, form, torch.device("cuda"))
    host = HostWindows(table, form)
    rng = np.random.default_rng(1)
    batches = [
        np.arange(i * 500 + 20, i * 500 + 520)
        if ends == "in order"
        else rng.integers(20, 30_000, 500)
        for i in range(50)
    ]
    kept = []
    for rows in batches:
        # The consumer's stream lags behind: the ring must not run ahead of its own copies.
        torch.cuda._sleep(2_000_000)
        kept.append(source.deliver(source.batch(rows)))
    for rows, got in zip(batches, kept, strict=True):
        (wanted,) = host.batches(rows, [len(rows)])
        assert same(got, wanted)


@cuda
def test_memory_of_dropped_batches_is_not_written_while_the_consumer_reads():
    X, y = rows_and_labels(60_000)
    table, form = Table.of(X, y), WindowForm(64, 0, torch.float32)
    source, host = SentWindows(table, form, torch.device("cuda")), HostWindows(table, form)
    rng = np.random.default_rng(1)
    sums, wanted = [], []
    for _ in range(40):
        rows = rng.integers(70, 60_000, 500)
        x, _ = source.deliver(source.batch(rows))
        torch.cuda._sleep(5_000_000)
        sums.append(x.double().sum())
        del x
        wanted.append(next(host.batches(rows, [500]))[0].double().sum())
    torch.testing.assert_close(torch.stack(sums).cpu(), torch.stack(wanted))


@cuda
@pytest.mark.parametrize("source_of", [ResidentWindows, SentWindows])
def test_a_consumer_may_change_its_stream_between_batches(source_of):
    X, y = rows_and_labels(60_000)
    table, form = Table.of(X, y), WindowForm(64, 0, torch.float32)
    source, host = source_of(table, form, torch.device("cuda")), HostWindows(table, form)
    ends = np.random.default_rng(1).integers(70, 60_000, 40 * 500)
    streams = [torch.cuda.Stream() for _ in range(3)]
    # The stream that makes the first batches lags behind: a reader that does not wait is too early.
    with torch.cuda.stream(streams[0]):
        torch.cuda._sleep(50_000_000)
    batches = source.batches(ends, [500] * 40)
    sums = []
    for i in range(40):
        with torch.cuda.stream(streams[i % 3]):
            batch = next(batches)
            x = (source.deliver(batch) if isinstance(source, SentWindows) else batch)[0]
            torch.cuda._sleep(2_000_000)
            sums.append(x.double().sum())
            # The next batch must not get this memory before the sum is done.
            del x, batch
    torch.cuda.synchronize()
    wanted = [x.double().sum() for x, _ in host.batches(ends, [500] * 40)]
    torch.testing.assert_close(torch.stack(sums).cpu(), torch.stack(wanted))


@cuda
def test_pinned_batches_of_the_cpu():
    X, y = rows_and_labels(2000)
    plain = WindowLoader(X, y, window=5, batch_size=64)
    kept = []
    for x, labels in WindowLoader(X, y, window=5, batch_size=64, pin_memory=True):
        assert x.is_pinned() and labels.is_pinned()
        kept.append((x.to("cuda", non_blocking=True), labels.to("cuda", non_blocking=True)))
        del x, labels
    assert all(same(got, wanted) for got, wanted in zip(kept, plain, strict=True))


@cuda
def test_stats_of_a_table_on_the_gpu():
    X, y = rows_and_labels(50_000, 55)
    loader = WindowLoader(X, y, window=48, shuffle=True, device="cuda")
    for _ in loader:
        pass
    stats = loader.stats()
    assert stats["mode"] == "device-resident"
    assert stats["windows"] == loader.windows
    assert stats["bytes"] == loader.windows * 48 * 55 * 4
    assert stats["memcpy_percent"] > 0
