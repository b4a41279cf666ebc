"""The 55-feature matrix: column at a time with strided writes, and one fused pass."""

import numpy as np
import pytest

from tfa_kernels import build_features, load_spec
from tfa_perf.baseline.features import build_features as build_features_as_written
from tfa_perf.config import bundled_configs
from tfa_perf.data.bars import load_bars

ROWS = 200_000


@pytest.fixture(scope="module")
def sides():
    bars = load_bars(f"synthetic:{ROWS}")
    spec = load_spec(bundled_configs() / "features" / "tfa55.json")
    expected = build_features_as_written(bars, spec)
    scale = np.abs(expected).max(axis=0)
    # The report's ZWIN takes E[x^2] - E[x]^2, which cancels.
    assert (np.abs(build_features(bars, spec).values - expected) <= 1e-3 * scale).all()
    return {
        "before": lambda: build_features_as_written(bars, spec),
        "after": lambda: build_features(bars, spec),
    }


@pytest.mark.parametrize("impl", ["before", "after"])
def test_feature_building(measure, sides, impl):
    measure(sides, impl)
