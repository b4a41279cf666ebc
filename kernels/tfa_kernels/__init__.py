"""Numba kernels for time-series trainers: fused technical features and window gather."""

from __future__ import annotations

from tfa_kernels.features import FeatureMatrix, build_features
from tfa_kernels.spec import Feature, FeatureSpec, SpecError, load_spec
from tfa_kernels.windows import convert_windows, gather_windows

__version__ = "0.1.0"

__all__ = [
    "Feature",
    "FeatureMatrix",
    "FeatureSpec",
    "SpecError",
    "__version__",
    "build_features",
    "convert_windows",
    "gather_windows",
    "load_spec",
]
