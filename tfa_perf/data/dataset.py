"""From bars to what a trainer consumes: features, labels, a split and a scaler."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tfa_kernels import FeatureMatrix, build_features, load_spec
from tfa_perf.config import ConfigError, DataConfig
from tfa_perf.data.bars import Bars
from tfa_perf.data.labels import forward_return_labels
from tfa_perf.data.scaler import Scaler, fit_scaler, transform
from tfa_perf.data.split import Split, split_windows
from tfa_perf.data.store import FeatureStore

__all__ = ["Dataset", "assemble", "build_dataset", "store_dataset"]


@dataclass(frozen=True)
class Dataset:
    """A scaled feature matrix with its labels and its split.

    ``X`` float32 [N, F] (scaled with statistics of training rows only), ``y`` float32 [N],
    ``split`` the window ends of either part, ``scaler`` and ``names`` to prepare later bars
    the same way. With a ``store`` X is what it maps, not scaled: a loader over the store scales
    its batches.
    """

    X: NDArray[np.float32]
    y: NDArray[np.float32]
    split: Split
    scaler: Scaler
    names: tuple[str, ...]
    store: FeatureStore | None = None


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
    split = _split(bars, labels.trainable, features.first_valid, config)
    scaler = fit_scaler(features.values, split.train_rows)
    X = transform(scaler, features.values, out=features.values)
    return Dataset(X, labels.y, split, scaler, features.names)


def store_dataset(store: FeatureStore, config: DataConfig) -> Dataset:
    """Split and scale the rows of a store, which stay where they are.

    A store that does not say what its labels were made with is taken to have those of ``config``.

    Raises
    ------
    ConfigError : features or labels of the store are not those of ``config``, or they are scaled.
    SpecError, SplitError : see `build_dataset`.
    """
    _check_made_as(store, config)
    split = _split(store, store.trainable, store.first_valid, config)
    scaler = fit_scaler(store.features, split.train_rows, store.names)
    store = replace(store, scaler=scaler)
    return Dataset(store.features, store.labels, split, scaler, store.names, store)


def _split(
    rows: Bars | FeatureStore, trainable: NDArray[np.bool_], first_valid: int, config: DataConfig
) -> Split:
    return split_windows(
        rows.ts,
        rows.offsets,
        trainable,
        window=config.window,
        horizon=config.horizon,
        first_valid=first_valid,
        train_fraction=config.train_fraction,
    )


def _check_made_as(store: FeatureStore, config: DataConfig) -> None:
    if load_spec(config.features).hash != store.spec_hash:
        raise ConfigError(
            f"data.features: {config.features} is another spec than that of {store.path}; "
            "name that one with --set data.features=FILE, or build a store with this one"
        )
    rule = {} if store.label_rule is None else store.label_rule._asdict()
    for name, made in rule.items():
        if getattr(config, name) != made:
            fix = "null" if made is None else made
            raise ConfigError(
                f"data.{name}: {getattr(config, name)}, but the labels in {store.path} were made "
                f"with {made}; give --set data.{name}={fix}, or build a store with these labels"
            )
    if store.scaled:
        raise ConfigError(
            f"store: {store.path} holds scaled features, and its scaler may know the rows that "
            "validate; store them as they are"
        )
