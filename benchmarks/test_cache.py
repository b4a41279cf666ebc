"""Writing a feature table to disk, and reading it back to the last byte."""

import numpy as np
import pytest

from tfa_perf.baseline.cache import load_cache, save_cache
from tfa_perf.data.store import create_store, open_store

ROWS, FEATURES = 100_000, 55


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((ROWS, FEATURES), dtype=np.float32)
    return X, (rng.random(ROWS) > 0.5).astype(np.float32)


def save_store(path, X, y):
    with create_store(path, rows=ROWS, features=FEATURES) as writer:
        writer.features[...] = X
        writer.labels[...] = y
        names = [f"f{i}" for i in range(FEATURES)]
        writer.commit(names=names, spec_hash="benchmark", convention="legacy")


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


@pytest.mark.parametrize("impl", ["before", "after"])
def test_cache_save(measure, sides, impl):
    measure(sides["save"], impl)


@pytest.mark.parametrize("impl", ["before", "after"])
def test_cache_load(measure, sides, impl):
    measure(sides["load"], impl)
