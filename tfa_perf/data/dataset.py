"""From bars to what a trainer consumes: features, labels, a split and a scaler."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tfa_kernels import FeatureMatrix, build_features
from tfa_perf.config import DataConfig
from tfa_perf.data.bars import Bars
from tfa_perf.data.labels import forward_return_labels
from tfa_perf.data.scaler import Scaler, fit_scaler, transform
from tfa_perf.data.split import Split, split_windows

__all__ = ["Dataset", "assemble", "build_dataset"]


@dataclass(frozen=True)
class Dataset:
    """A scaled feature matrix with its labels and its split.

    ``X`` float32 [N, F] (scaled with statistics of training rows only), ``y`` float32 [N],
    ``split`` the window ends of either part, ``scaler`` and ``names`` to prepare later bars
    the same way.
    """

    X: NDArray[np.float32]
    y: NDArray[np.float32]
    split: Split
    scaler: Scaler
    names: tuple[str, ...]


def build_dataset(bars: Bars, config: DataConfig) -> Dataset:
    """Build features, labels, split and scaler for ``bars``.

    Raises
    ------
    SpecError : the feature spec is not valid.
    SplitError : too few bars for one window on either side of the split.
    """
    return assemble(bars, build_features(bars, config.features), config)


def assemble(bars: Bars, features: FeatureMatrix, config: DataConfig) -> Dataset:
    """Label, split and scale features that are built already; ``features`` is scaled in place."""
    labels = forward_return_labels(
        bars.close,
        config.horizon,
        offsets=bars.offsets,
        volume=bars.volume,
        min_volume=config.min_volume,
        min_move=config.min_move,
    )
    split = split_windows(
        bars.ts,
        bars.offsets,
        labels.trainable,
        window=config.window,
        horizon=config.horizon,
        first_valid=features.first_valid,
        train_fraction=config.train_fraction,
    )
    scaler = fit_scaler(features.values, split.train_rows)
    X = transform(scaler, features.values, out=features.values)
    return Dataset(X, labels.y, split, scaler, features.names)
