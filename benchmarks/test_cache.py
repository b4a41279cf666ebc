"""Writing a feature table to disk, and reading it back to the last byte."""

import numpy as np
import pytest

from benchmarks.memory_cases import FEATURES, save_store
from benchmarks.sizes import current
from tfa_perf.baseline.cache import load_cache, save_cache
from tfa_perf.data.store import open_store

ROWS = current().cached
BYTES = ROWS * (FEATURES + 1) * 4


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((ROWS, FEATURES), dtype=np.float32)
    return X, (rng.random(ROWS) > 0.5).astype(np.float32)


@pytest.fixture(scope="module")
def sides(table, tmp_path_factory):
    X, y = table
    folder = tmp_path_factory.mktemp("cache")
    save_cache(folder, X, y)
    save_store(folder / "store", X, y)
    store = open_store(folder / "store")
    for before, after in zip(load_cache(folder), (store.features, store.labels), strict=True):
        assert np.array_equal(before, after)
    return {
        "save": {
            "before": lambda: save_cache(folder, X, y),
            "after": lambda: save_store(folder / "store", X, y),
        },
        # Opening a memory map reads nothing, so both sides are summed over every value.
        "load": {
            "before": lambda: load_cache(folder)[0].sum(),
            "after": lambda: open_store(folder / "store").features.sum(),
        },
    }


def test_cache_save(measure, sides, impl):
    measure(sides["save"], impl, samples=ROWS, moved=BYTES)


def test_cache_load(measure, sides, impl):
    measure(sides["load"], impl, samples=ROWS, moved=BYTES)
