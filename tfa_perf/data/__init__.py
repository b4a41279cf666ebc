"""From files of bars to feature tables, labels and scalers.

What needs torch is imported when it is asked for: a process that builds features does without.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tfa_perf.data.bars import Bars, BarsError, load_bars
from tfa_perf.data.dataset import Dataset, build_dataset, store_dataset
from tfa_perf.data.labels import LabelRule, Labels, forward_return_labels
from tfa_perf.data.scaler import Scaler, fit_scaler, transform
from tfa_perf.data.store import (
    FeatureStore,
    NewerStoreError,
    StoreError,
    StoreWriter,
    create_store,
    open_or_build,
    open_store,
)
from tfa_perf.data.synthetic import synthetic_bars

if TYPE_CHECKING:
    from tfa_perf.data.loader import WindowLoader
    from tfa_perf.data.window_dataset import WindowDataset

__all__ = [
    "Bars",
    "BarsError",
    "Dataset",
    "FeatureStore",
    "LabelRule",
    "Labels",
    "NewerStoreError",
    "Scaler",
    "StoreError",
    "StoreWriter",
    "WindowDataset",
    "WindowLoader",
    "build_dataset",
    "create_store",
    "fit_scaler",
    "forward_return_labels",
    "load_bars",
    "open_or_build",
    "open_store",
    "store_dataset",
    "synthetic_bars",
    "transform",
]

_WITH_TORCH = {"WindowDataset": "window_dataset", "WindowLoader": "loader"}


def __getattr__(name: str) -> Any:
    if name not in _WITH_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WITH_TORCH[name]}"), name)
