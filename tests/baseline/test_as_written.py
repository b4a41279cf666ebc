import numpy as np
import pytest
from torch.utils.data import DataLoader

from tfa_kernels import SpecError, reference
from tfa_perf.baseline.cache import load_cache, save_cache
from tfa_perf.baseline.features import build_features
from tfa_perf.baseline.windows import SeqWindows
from tfa_perf.config import bundled_configs
from tfa_perf.data.bars import load_bars

SPEC = bundled_configs() / "features" / "tfa55.json"


@pytest.mark.parametrize("source", ["sample", "synthetic:2000"])
def test_column_builder_agrees_with_the_definitions(source):
    bars = load_bars(source).slice(0, 2000)
    built, expected = build_features(bars, SPEC), reference.build_features(bars, SPEC)
    scale = np.abs(expected).max(axis=0)
    assert built.dtype == np.float32
    assert (np.abs(built - expected) <= 1e-3 * scale).all()
    assert (built[:64] == 0).all()


def test_only_the_legacy_convention():
    features = [{"name": "a", "op": "EMA"}]
    with pytest.raises(SpecError, match="'legacy'"):
        build_features(load_bars("sample"), {"schema_version": "2.0", "features": features})
    spec = {"schema_version": "1.0", "features": features}
    assert isinstance(build_features(load_bars("sample"), spec), np.ndarray)


def test_seq_windows_yields_every_window_in_one_buffer():
    X = np.arange(60, dtype=np.float32).reshape(20, 3)
    y = np.arange(20, dtype=np.float32)[:, None]
    batches, addresses = [], set()
    for x, labels in DataLoader(SeqWindows(X, y, 4, 5, 17, 6), batch_size=None):
        batches.append((x.clone(), labels.clone()))
        addresses.add(x.data_ptr())
    assert [len(x) for x, _ in batches] == [6, 6, 1]
    windows = np.concatenate([x for x, _ in batches])
    assert np.array_equal(windows, np.stack([X[t - 3 : t + 1] for t in range(5, 18)]))
    assert np.concatenate([labels for _, labels in batches]).ravel().tolist() == list(range(5, 18))
    assert len(addresses) == 1


def test_cache_round_trip(tmp_path):
    X, y = np.random.default_rng(0).random((2, 7, 3)).astype(np.float32)
    save_cache(tmp_path, X, y)
    loaded = load_cache(tmp_path)
    assert np.array_equal(loaded[0], X)
    assert np.array_equal(loaded[1], y)
