"""Batches of windows: 300,000 rows of 55 features, 1,024 shuffled windows of 48 rows each.

In the tables "ours" is the gather or the loader of this package, "other" what the row names; both
use as many threads as torch does. "In turn" fills four buffers one after the other, as a loader
must that never overwrites a batch; "one buffer" fills the same again and again.

"memcpy" copies as many contiguous bytes out of the table: "piece after piece", or "from any row",
where the caches hold as much of the source, by chance, as they do of the gather's windows.
"""

import itertools

import numba
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.sizes import current
from tfa_kernels import gather_windows
from tfa_kernels.windows import WindowGather
from tfa_perf.baseline.windows import SeqWindows
from tfa_perf.data.loader import WindowLoader
from tfa_perf.data.window_dataset import WindowDataset

ROWS, FEATURES, WINDOW, BATCH = current().rows, 55, 48, current().batch
WINDOWS = ROWS - WINDOW + 1
# Batches in a timed round of one side.
ROUND, BUFFERS = 24, 4


@pytest.fixture(scope="module", autouse=True)
def _same_threads():
    before = numba.get_num_threads()
    numba.set_num_threads(min(torch.get_num_threads(), before))
    yield
    numba.set_num_threads(before)


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(0).standard_normal((ROWS, FEATURES), dtype=np.float32)


@pytest.fixture(scope="module")
def y():
    return (np.random.default_rng(1).random(ROWS) > 0.5).astype(np.float32)


@pytest.fixture(scope="module")
def starts():
    order = np.random.default_rng(2).permutation(WINDOWS)
    return [order[i * BATCH : (i + 1) * BATCH] for i in range(WINDOWS // BATCH)]


@pytest.fixture(scope="module")
def first_batch(X, starts):
    return np.stack([X[start : start + WINDOW] for start in starts[0]])


@pytest.fixture(scope="module")
def buffers():
    return [np.zeros((BATCH, WINDOW, FEATURES), np.float32) for _ in range(BUFFERS)]


@pytest.fixture(scope="module")
def each(starts):
    """``each(gather)``: a round that calls gather(starts, number) for the next few batches."""
    rounds = itertools.count()

    def run_of(gather):
        def run():
            first = next(rounds) * ROUND
            for i in range(first, first + ROUND):
                gather(starts[i % len(starts)], i)

        return run

    return run_of


@pytest.fixture(scope="module")
def ours(X, starts, first_batch, buffers, each):
    """The bare gather into the same buffer, and into several in turn."""
    gather = WindowGather(X, WINDOW)
    flat = [buffer.reshape(-1).view(np.uint8) for buffer in buffers]
    gather_windows(X, starts[0], WINDOW, buffers[0])
    gather.fill(starts[0], flat[1])
    assert np.array_equal(buffers[0], first_batch)
    assert np.array_equal(buffers[1], first_batch)
    return {
        "one buffer": each(lambda s, _: gather_windows(X, s, WINDOW, buffers[0])),
        "in turn": each(lambda s, i: gather.fill(s, flat[i % BUFFERS])),
    }


class MapStyle(Dataset):
    """One slice a window, stacked by the default collation."""

    def __init__(self, X, y):
        self.X, self.y = torch.from_numpy(X), torch.from_numpy(y)

    def __len__(self):
        return WINDOWS

    def __getitem__(self, i):
        return self.X[i : i + WINDOW], self.y[i + WINDOW - 1]


def drain(loader, batches=None):
    for _ in itertools.islice(loader, batches):
        pass


def test_window_loading(measure, X, y, impl):
    before = DataLoader(
        SeqWindows(X, y[:, None], WINDOW, WINDOW - 1, ROWS - 1, BATCH), batch_size=None
    )
    after = WindowLoader(X, y, window=WINDOW, batch_size=BATCH)
    for (x_before, y_before), (x_after, y_after) in zip(before, after, strict=True):
        assert torch.equal(x_before, x_after)
        assert torch.equal(y_before, y_after)
    measure(
        {"before": lambda: drain(before), "after": lambda: drain(after)},
        impl,
        rounds=10,
        samples=WINDOWS,
        # Windows in order share their rows, so a copy of as many bytes reads more than this does.
        moved=WINDOWS * WINDOW * FEATURES * 4,
        copied=BATCH * WINDOW * FEATURES * 4,
    )


@pytest.mark.peers(always=True)
@pytest.mark.parametrize("into", ["one buffer", "in turn"])
@pytest.mark.parametrize(
    "other", ["index_select(out=)", "memcpy, piece after piece", "memcpy, from any row"]
)
def test_gather(versus, X, starts, first_batch, buffers, each, ours, other, into):
    windows = torch.from_numpy(X).as_strided((WINDOWS, WINDOW, FEATURES), (FEATURES, FEATURES, 1))
    targets = [torch.from_numpy(buffer) for buffer in buffers]
    used = 1 if into == "one buffer" else BUFFERS
    table, rows = torch.from_numpy(X), BATCH * WINDOW
    in_turn = range(0, ROWS - rows + 1, rows)
    anywhere = np.random.default_rng(3).integers(0, ROWS - rows + 1, 1000).tolist()

    def copy_from(firsts):
        def copy(_, i):
            first = firsts[i % len(firsts)]
            targets[i % used].view(rows, FEATURES).copy_(table[first : first + rows])

        return copy

    gathers = {
        "index_select(out=)": lambda s, i: torch.index_select(
            windows, 0, torch.from_numpy(s), out=targets[i % used]
        ),
        "memcpy, piece after piece": copy_from(in_turn),
        "memcpy, from any row": copy_from(anywhere),
    }
    if not other.startswith("memcpy"):
        gathers[other](starts[0], 0)
        assert np.array_equal(targets[0], first_batch)
    versus(f"{other}, {into}", each(gathers[other]), ours[into], pairs=20)


def test_gather_and_the_loop_of_the_report(versus, X, starts, first_batch, buffers, each, ours):
    def copy(starts, _):
        for k, start in enumerate(starts):
            buffers[0][k] = X[start : start + WINDOW]

    copy(starts[0], 0)
    assert np.array_equal(buffers[0], first_batch)
    versus("loop of the report", each(copy), ours["one buffer"])


@pytest.mark.peers(always=True)
def test_gather_and_a_map_style_dataset(versus, X, y, starts, first_batch, ours):
    loader = DataLoader(MapStyle(X, y), batch_sampler=[s.tolist() for s in starts[:ROUND]])
    assert np.array_equal(next(iter(loader))[0], first_batch)
    versus("DataLoader, map style, in process", lambda: drain(loader), ours["in turn"])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("scaled", [True, False], ids=["scaled", "cast"])
def test_conversion_on_the_way(versus, X, starts, first_batch, each, ours, dtype, scaled):
    if dtype == "float32" and not scaled:
        pytest.skip("nothing to convert")
    kind = np.dtype("uint16" if dtype == "bfloat16" else dtype)
    scale = {"shift": X[0], "factor": X[1]} if scaled else {}
    gather = WindowGather(X, WINDOW, dtype=kind, **scale)
    size = BATCH * WINDOW * FEATURES * kind.itemsize
    memory = [np.zeros(size, np.uint8) for _ in range(BUFFERS)]
    converted = each(lambda s, i: gather.fill(s, memory[i % BUFFERS]))
    x = torch.from_numpy(first_batch)
    shift, factor = torch.from_numpy(X[:2])
    expected = (x - shift) * factor if scaled else x
    gather.fill(starts[0], memory[0])
    made = torch.from_numpy(memory[0]).view(getattr(torch, dtype)).view(expected.shape)
    torch.testing.assert_close(made, expected.to(made.dtype))
    name = f"plain gather / to {dtype}{', scaled' if scaled else ''}"
    versus(name, ours["in turn"], converted, pairs=20)


@pytest.mark.parametrize("prefetch", [0, 2])
def test_loader_and_the_bare_gather(versus, X, y, starts, buffers, prefetch):
    gather = WindowGather(X, WINDOW)
    flat = [buffer.reshape(-1).view(np.uint8) for buffer in buffers]

    def bare():
        for i, s in enumerate(starts):
            gather.fill(s, flat[i % BUFFERS])

    loader = WindowLoader(
        X, y, window=WINDOW, batch_size=BATCH, shuffle=True, drop_last=True, prefetch=prefetch
    )
    versus(f"bare gather / loader, prefetch={prefetch}", bare, lambda: drain(loader), pairs=12)


@pytest.mark.peers
@pytest.mark.parametrize("peer", ["numpy fancy index", "torch advanced index", "tensordict"])
def test_indexing_peers(versus, installed, X, starts, first_batch, each, ours, peer):
    table, steps = torch.from_numpy(X), torch.arange(WINDOW)
    if peer == "tensordict":
        tensordict = installed(peer, "tensordict")
        windows = tensordict.TensorDict({"x": table.unfold(0, WINDOW, 1)}, batch_size=[WINDOWS])
    gathers = {
        "numpy fancy index": lambda s, _: X[s[:, None] + np.arange(WINDOW)],
        "torch advanced index": lambda s, _: table[torch.from_numpy(s)[:, None] + steps],
        "tensordict": lambda s, _: windows[torch.from_numpy(s)],
    }
    made = gathers[peer](starts[0], 0)
    made = made["x"].transpose(1, 2) if peer == "tensordict" else made
    assert np.array_equal(made, first_batch)
    versus(peer, each(gathers[peer]), ours["in turn"])


@pytest.mark.peers
@pytest.mark.parametrize(
    "peer",
    [
        "DataLoader, 2 workers",
        "DataLoader, 4 workers",
        "DataLoader with __getitems__, in process",
        "DataLoader with __getitems__, 2 workers",
        "torchdata, in process",
    ],
)
def test_loader_peers(versus, installed, X, y, peer):
    workers = next((int(word) for word in peer.split() if word.isdigit()), 0)
    kind = DataLoader
    if peer.startswith("torchdata"):
        kind = installed(f"{peer}, an epoch", "torchdata.stateful_dataloader").StatefulDataLoader
    data = WindowDataset(X, y, window=WINDOW) if "__getitems__" in peer else MapStyle(X, y)
    other = kind(
        data, BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0,
        multiprocessing_context="spawn" if workers else None,
    )  # fmt: skip
    loader = WindowLoader(X, y, window=WINDOW, batch_size=BATCH, shuffle=True)
    # Either in an order of its own, every window once.
    totals = [sum(by.sum().item() for _, by in way) for way in (other, loader)]
    assert totals[0] == totals[1] == y[WINDOW - 1 :].sum()
    versus(f"{peer}, an epoch", lambda: drain(other), lambda: drain(loader), pairs=8)


@pytest.mark.peers
def test_neuralforecast(versus, installed, X, y, ours):
    """What its training step does before the model, for the windows of one batch."""
    row = "neuralforecast, windows of a training step"
    installed(row, "neuralforecast")
    pd = installed(row, "pandas")
    from neuralforecast.models import MLP
    from neuralforecast.tsdataset import TimeSeriesDataModule, TimeSeriesDataset

    columns = [f"f{i}" for i in range(FEATURES)]
    frame = pd.DataFrame(X, columns=columns)
    frame.insert(0, "y", y)
    frame.insert(0, "ds", np.arange(ROWS))
    frame.insert(0, "unique_id", "series")
    dataset, *_ = TimeSeriesDataset.from_df(frame)
    # Its windows hold the horizon as well: as many rows as ours.
    model = MLP(
        h=1, input_size=WINDOW - 1, hist_exog_list=columns, windows_batch_size=BATCH, max_steps=1
    )
    model.val_size = model.test_size = 0
    batches = TimeSeriesDataModule(dataset).train_dataloader()

    def step():
        (series,) = batches
        windows, static, static_cols, allowed, weight, names = model._create_windows(
            series, step="train"
        )
        chosen = torch.randperm(len(allowed))[:BATCH]
        sampled = model._sample_windows(
            windows, static, static_cols, names, chosen, allowed, sample_weight=weight
        )
        assert sampled["temporal"].shape[:2] == (BATCH, WINDOW)

    def steps():
        for _ in range(ROUND):
            step()

    versus(row, steps, ours["in turn"], pairs=6)
