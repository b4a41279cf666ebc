"""A legacy builder's own output, where TFA_GOLDEN names the folder that holds it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from tfa_kernels import build_features, load_spec, reference

FOLDER = os.environ.get("TFA_GOLDEN")
pytestmark = pytest.mark.skipif(
    not FOLDER, reason="TFA_GOLDEN names no folder with legacy_golden.npz and legacy_spec.json"
)


@pytest.fixture(scope="module")
def golden():
    """spec, bars, the wanted matrix and ours."""
    folder = Path(str(FOLDER))
    with np.load(folder / "legacy_golden.npz") as file:
        bars = {name: file[name] for name in ("open", "high", "low", "close", "volume")}
        wanted = file["X"]
    spec = load_spec(folder / "legacy_spec.json")
    return spec, bars, wanted, build_features(bars, spec).values


def resolved(feature, bars):
    """Rows whose std is more than what float32 leaves of the square of their mean."""
    x = bars["close" if feature.source == "logret" else feature.source].astype(np.float64)
    if feature.source == "logret":
        x = np.diff(np.log(x), prepend=np.log(x[0]))
    rows = sliding_window_view(x, feature.window)
    clear = rows.std(axis=1) > 1e-3 * np.abs(rows).mean(axis=1)
    return np.concatenate((np.zeros(feature.window - 1, bool), clear))


def test_padded_rows_are_equal(golden):
    spec, _, wanted, ours = golden
    assert spec.emit_from_index > 0
    np.testing.assert_array_equal(ours[: spec.emit_from_index], wanted[: spec.emit_from_index])


def test_every_column(golden, legacy_bound, capsys):
    spec, bars, wanted, ours = golden
    oracle = reference.build_features(bars, spec)
    largest: dict[str, float] = {}
    for c, feature in enumerate(spec.features):
        x, y = ours[:, c].astype(np.float64), wanted[:, c].astype(np.float64)
        counted = np.ones(x.size, bool) if feature.op != "ZWIN" else resolved(feature, bars)
        gap = np.where(counted, np.abs(x - y), 0)
        deviation = gap.max() / np.abs(y).max()
        assert deviation <= legacy_bound(feature), (feature.name, deviation)
        largest[feature.op] = max(largest.get(feature.op, 0), deviation)
        # Less than that is rounding of either.
        apart = gap > 1e-6 * np.abs(y).max()
        ours_off, wanted_off = np.abs(x - oracle[:, c]), np.abs(y - oracle[:, c])
        assert (ours_off[apart] < wanted_off[apart]).all(), feature.name
    with capsys.disabled():
        print("\nlargest deviation over the column's largest magnitude")
        for op, deviation in sorted(largest.items()):
            print(f"  {op:17s} {deviation:.1e}")
