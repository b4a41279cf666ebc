"""WindowDataset under torch's own DataLoader, worker processes included."""

import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset

from tfa_perf.data.loader import WindowLoader
from tfa_perf.data.window_dataset import WindowDataset

ROWS = 500


@pytest.fixture(scope="module")
def mapped(tmp_path_factory):
    X = np.random.default_rng(0).standard_normal((ROWS, 4), dtype=np.float32)
    file = tmp_path_factory.mktemp("table") / "X.npy"
    np.save(file, X)
    return np.load(file, mmap_mode="r")


FORM = {"window": 6, "horizon": 2, "stride": 3, "series": [0, 200, ROWS]}


def labels():
    return np.arange(ROWS, dtype=np.float32)


def same(batches, wanted):
    batches, wanted = list(batches), list(wanted)
    assert len(batches) == len(wanted)
    for got, other in zip(batches, wanted, strict=True):
        assert len(got) == len(other)
        assert all(torch.equal(a, b) for a, b in zip(got, other, strict=True))


@pytest.mark.parametrize(
    ("workers", "start"),
    [(0, None), (2, "fork"), (2, "spawn")],
    ids=["in process", "fork", "spawn"],
)
@pytest.mark.parametrize("nan", ["error", "mask"])
def test_data_loader_yields_the_batches_of_the_window_loader(mapped, workers, start, nan):
    form = {**FORM, "nan": nan, "return_index": True}
    X = mapped if nan == "error" else mapped.copy()
    if nan == "mask":
        X[60, 1] = np.nan
    data = WindowDataset(X, labels(), **form)
    # A spawned worker takes seconds to start: those of the first pass make the second one too.
    loader = DataLoader(
        data, 32, num_workers=workers, multiprocessing_context=start,
        persistent_workers=start == "spawn",
    )  # fmt: skip
    # Kernels run here first: a forked worker must not inherit their threads.
    wanted = list(WindowLoader(X, labels(), batch_size=32, **form))
    same(loader, wanted)
    same(loader, wanted)


def test_samples_are_those_of_the_batches(mapped):
    data = WindowDataset(mapped, labels(), **FORM)
    (wanted,) = WindowLoader(mapped, labels(), batch_size=1000, **FORM)
    assert len(data) == len(wanted[0]) == 163
    for i in (0, 3, 162, -1):
        assert all(torch.equal(a, b[i]) for a, b in zip(data[i], wanted, strict=True))
    some = data.__getitems__([5, 0, 5])
    assert [len(s) for s in some] == [2, 2, 2]
    assert torch.equal(some[-1][0], data[5][0]) and torch.equal(some[1:][0][0], data[0][0])
    for bad in (163, -164):
        with pytest.raises(IndexError, match=r"of 163: allowed 0\.\.162"):
            data[bad]
    with pytest.raises(IndexError, match="sample 3 of 3"):
        some[3]


def test_other_collations_and_wrappers_see_samples(mapped):
    data = WindowDataset(mapped, labels(), **FORM)
    (wanted,) = DataLoader(data, 200)
    stacked = DataLoader(data, 200, collate_fn=lambda s: [torch.stack(p) for p in zip(*s)])  # noqa: B905
    same(stacked, [wanted])
    same(DataLoader(Subset(data, range(163)), 200), [wanted])
    same(DataLoader([data.__getitems__([i])[0] for i in range(163)], 200), [wanted])
    same(DataLoader(data, sampler=range(163), batch_size=200), [wanted])


def test_a_batch_is_gathered_once(mapped, monkeypatch):
    data = WindowDataset(mapped, labels(), **FORM)
    gathered = []

    def batch(indices):
        gathered.append(gather(indices))
        return gathered[-1]

    gather = data._batch
    monkeypatch.setattr(data, "_batch", batch)
    x, _ = next(iter(DataLoader(data, 100)))
    assert len(gathered) == 1 and x.shape == (100, 6, 4)
    # Not stacked anew.
    assert x.data_ptr() == gathered[0][0].data_ptr()


def test_a_mapped_table_is_pickled_as_the_name_of_its_file(mapped):
    for X in (mapped, mapped[100:], mapped.view(np.ndarray)):
        data = WindowDataset(X, labels()[: len(X)], window=5)
        data[0]
        sent = pickle.dumps(data)
        assert len(sent) < 10_000
        again = pickle.loads(sent)
        assert again._table.X.base is not None and torch.equal(again[7][0], data[7][0])
    private = np.load(mapped.filename, mmap_mode="c")
    private[3] = 7
    again = pickle.loads(pickle.dumps(WindowDataset(private, labels(), window=5)))
    assert (again[3][0][0] == 7).all()


def test_dtype_and_store_arguments(mapped):
    data = WindowDataset(mapped, labels(), window=5, dtype=torch.bfloat16)
    assert torch.equal(data[4][0], torch.from_numpy(mapped[4:9].copy()).bfloat16())
    with pytest.raises(ValueError, match="window"):
        WindowDataset(mapped, labels(), window=0)
