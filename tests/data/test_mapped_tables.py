"""Tables larger than memory: a shuffle in blocks holds a bounded part of a mapped file."""

import sys

import numpy as np
import pytest

from tfa_perf.data import order as order_module
from tfa_perf.data.loader import WindowLoader
from tfa_perf.data.mapped import MappedRows, mapped_file, reopened

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/smaps")
ROWS, COLUMNS = 400_000, 32
TABLE = ROWS * COLUMNS * 4


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "X.npy"
    X = np.repeat(np.arange(ROWS, dtype=np.float32)[:, None], COLUMNS, axis=1)
    np.save(path, X)
    return path


def parts(path):
    """The parts of the file that this process has mapped: what the system says of each."""
    found = []
    with open("/proc/self/smaps") as maps:
        inside = False
        for line in maps:
            words = line.split()
            if "-" in words[0] and not words[0].endswith(":"):
                inside = line.rstrip().endswith(str(path))
                if inside:
                    found.append({})
            elif inside:
                found[-1][words[0]] = words[1:]
    return found


def resident(path):
    """Bytes of the file that are in this process."""
    return sum(int(part["Rss:"][0]) * 1024 for part in parts(path))


def without_read_ahead(path):
    """Bytes of the file around which nothing is read when one of them is missing."""
    flagged = [part for part in parts(path) if "rr" in part["VmFlags:"]]
    return sum(int(part["Size:"][0]) * 1024 for part in flagged)


@linux
@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_pass_in_blocks_holds_few_groups_of_the_table(file, monkeypatch, prefetch):
    monkeypatch.setattr(order_module, "_BLOCK_BYTES", 1 << 18)
    monkeypatch.setattr(order_module, "_BLOCKS", 2)
    X = np.load(file, mmap_mode="r")
    loader = WindowLoader(
        X, np.arange(ROWS), window=20, batch_size=500, shuffle="block", prefetch=prefetch
    )
    # The search for NaNs has read all of it.
    assert resident(file) < TABLE / 20
    largest, seen = 0, 0
    for epoch in range(2):
        loader.set_epoch(epoch)
        for i, (x, y) in enumerate(loader):
            assert (x[:, -1, 0].numpy() == y[:, 0].numpy()).all()
            seen += len(x)
            if i % 40 == 0:
                largest = max(largest, resident(file))
    assert seen == 2 * loader.windows
    # Two groups of two blocks, and what the system maps around each of them.
    assert 0 < largest < TABLE / 2
    assert resident(file) < TABLE / 20


@linux
@pytest.mark.parametrize("end", ["finished", "closed", "dropped"])
def test_a_missing_row_of_a_block_has_nothing_read_around_it(file, monkeypatch, end):
    monkeypatch.setattr(order_module, "_BLOCK_BYTES", 1 << 18)
    monkeypatch.setattr(order_module, "_BLOCKS", 2)
    X = np.load(file, mmap_mode="r")
    loader = WindowLoader(X, np.zeros(ROWS), window=20, batch_size=500, shuffle="block")
    batches = iter(loader)
    next(batches)
    # What a few blocks take, and their neighbours' edges.
    assert 1 << 19 <= without_read_ahead(file) <= TABLE / 4
    if end == "finished":
        for _ in batches:
            pass
    elif end == "closed":
        batches.close()
    else:
        del batches
    assert without_read_ahead(file) == 0
    assert resident(file) < TABLE / 20


def test_pages_let_go_of_hold_the_same_values_again(file):
    X = np.load(file, mmap_mode="r+")[1000:]
    X[5] = -1
    pages = MappedRows.of(X)
    pages.want(0, len(X))
    pages.release(0, len(X))
    assert (X[5] == -1).all() and X[6, 0] == 1006
    assert np.load(file, mmap_mode="r")[1005, 0] == -1
    X[5] = 1005


def test_private_maps_and_arrays_in_memory_are_left_alone(file):
    private = np.load(file, mmap_mode="c")
    private[3] = 7
    for X in (private, private[2:].view(np.ndarray), np.zeros((3, 2)), None):
        assert mapped_file(X) is None and MappedRows.of(X) is None
    WindowLoader(private, np.zeros(ROWS), window=4, shuffle="block")
    assert (private[3] == 7).all()


def test_arguments_that_map_a_part_again(file):
    X = np.load(file, mmap_mode="r")
    for part in (X, X[100:], X[7:9].view(np.ndarray)):
        assert np.array_equal(np.memmap(*reopened(part))[:2], part[:2])
    for no_map in (X[:, 1:], X[:0], np.zeros((3, 2))):
        assert reopened(no_map) is None
