"""Numba kernels for time-series trainers: technical features, window gather, attention."""

from __future__ import annotations

from tfa_kernels._jit import cache_folders
from tfa_kernels._warm_up import warm_up
from tfa_kernels.attention import (
    shared_attention,
    shared_attention_gradient,
    window_attention,
    window_attention_gradient,
)
from tfa_kernels.features import FeatureMatrix, build_features
from tfa_kernels.leakage import check_leakage
from tfa_kernels.leakage_report import FeatureLeakage, LeakageError, LeakageReport
from tfa_kernels.overlap import overlap_add
from tfa_kernels.spec import Feature, FeatureSpec, SpecError, load_spec
from tfa_kernels.stream import FeatureStream
from tfa_kernels.user_ops import OpError, register_op
from tfa_kernels.windows import gather_windows

__version__ = "0.1.0"

__all__ = [
    "Feature",
    "FeatureLeakage",
    "FeatureMatrix",
    "FeatureSpec",
    "FeatureStream",
    "LeakageError",
    "LeakageReport",
    "OpError",
    "SpecError",
    "__version__",
    "build_features",
    "cache_folders",
    "check_leakage",
    "gather_windows",
    "load_spec",
    "overlap_add",
    "register_op",
    "shared_attention",
    "shared_attention_gradient",
    "warm_up",
    "window_attention",
    "window_attention_gradient",
]
