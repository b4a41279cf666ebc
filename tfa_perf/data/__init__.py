"""From files of bars to feature tables, labels and scalers."""

from tfa_perf.data.bars import Bars, BarsError, load_bars
from tfa_perf.data.dataset import Dataset, build_dataset
from tfa_perf.data.labels import Labels, forward_return_labels
from tfa_perf.data.loader import WindowLoader
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
from tfa_perf.data.window_dataset import WindowDataset

__all__ = [
    "Bars",
    "BarsError",
    "Dataset",
    "FeatureStore",
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
    "synthetic_bars",
    "transform",
]
