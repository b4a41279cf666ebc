"""The two sides of the demo: the report's trainer as written, and ours, on the same bars."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import cycle

import numpy as np
import torch

from tfa_kernels import build_features
from tfa_perf.baseline.features import build_features as build_features_as_written
from tfa_perf.baseline.loop import train_steps as train_steps_as_written
from tfa_perf.baseline.model import TFATransformer
from tfa_perf.baseline.windows import SeqWindows
from tfa_perf.config import Config
from tfa_perf.data.bars import Bars
from tfa_perf.data.dataset import Dataset, assemble, build_dataset
from tfa_perf.train.loop import train_steps
from tfa_perf.train.model import WindowEncoder
from tfa_perf.train.setup import make_loader

__all__ = ["MismatchError", "SeveralSeriesError", "Sides", "build_sides"]


class SeveralSeriesError(ValueError):
    """The report's loader knows one series; bars of several symbols cannot be compared on it."""


class MismatchError(RuntimeError):
    """The two sides compute different things: no timing of them would mean anything."""


@dataclass(frozen=True)
class Sides:
    """Either trainer as an iterator: one optimizer step an item, which is the windows it saw."""

    before: Iterator[int]
    after: Iterator[int]


def build_sides(
    bars: Bars, before: Config, after: Config, device: torch.device, *, steps: int
) -> Sides:
    """Prepare both trainers on ``bars``, for at least ``steps`` steps each.

    The features are compared first, and the logits too where both configs describe the same
    model; the models then start from the same weights.

    Raises
    ------
    SeveralSeriesError : ``bars`` hold more than one series.
    MismatchError : features or logits of the two sides differ.
    """
    if len(bars.symbols) > 1:
        raise SeveralSeriesError(
            f"bars: {len(bars.symbols)} symbols, but the report's loader knows one series; "
            "give the bars of one symbol"
        )
    data_before = _dataset_as_written(bars, before)
    data_after = build_dataset(bars, after.data)
    torch.manual_seed(before.train.seed)
    model_before = TFATransformer(data_before.X.shape[1], before.model).to(device)
    model_after = WindowEncoder(data_after.X.shape[1], after.model).to(device)
    if before.model == after.model and before.data == after.data:
        model_after.load_state_dict(model_before.state_dict())
        _compare_logits(model_before, model_after, data_before, before.data.window, device)
    return Sides(
        _steps_as_written(model_before, data_before, before, device, steps),
        _steps(model_after, data_after, after, device, steps),
    )


def _dataset_as_written(bars: Bars, config: Config) -> Dataset:
    features = build_features(bars, config.data.features)
    values = build_features_as_written(bars, config.data.features)
    scale = np.abs(features.values).max(axis=0, initial=1e-30)
    difference = np.abs(values - features.values).max(axis=0, initial=0) / scale
    worst = int(difference.argmax())
    # What is left between the two: the report's ZWIN takes E[x^2] - E[x]^2.
    if not difference[worst] <= 1e-3:
        raise MismatchError(
            f"feature {features.names[worst]!r} differs by {difference[worst]:.2g} of its largest "
            "value between the report's builder and ours"
        )
    return assemble(bars, replace(features, values=values), config.data)


@torch.no_grad()
def _compare_logits(
    before: TFATransformer,
    after: WindowEncoder,
    dataset: Dataset,
    window: int,
    device: torch.device,
) -> None:
    ends = dataset.split.train_ends[:64]
    x = torch.from_numpy(np.stack([dataset.X[t - window + 1 : t + 1] for t in ends])).to(device)
    difference = (before.train()(x) - after.train()(x)).abs().max().item()
    if not difference <= 1e-4:
        raise MismatchError(f"logits of the two models differ by {difference:.2g} on the same rows")


def _steps_as_written(
    model: TFATransformer, dataset: Dataset, config: Config, device: torch.device, steps: int
) -> Iterator[int]:
    first, last = int(dataset.split.train_ends[0]), int(dataset.split.train_ends[-1])
    batch = config.train.batch_size
    windows = SeqWindows(dataset.X, dataset.y[:, None], config.data.window, first, last, batch)
    sizes = [min(batch, last + 1 - start) for start in range(first, last + 1, batch)]
    epochs = -(-steps // len(sizes))
    train = config.train.model_copy(update={"epochs": epochs})
    losses = train_steps_as_written(model, windows, train, device)
    for _, size in zip(losses, cycle(sizes), strict=False):
        yield size


def _steps(
    model: WindowEncoder, dataset: Dataset, config: Config, device: torch.device, steps: int
) -> Iterator[int]:
    loader = make_loader(dataset, config, device)
    per_epoch = -(-len(loader) // config.train.accumulation)
    # An item is one step.
    train = config.train.model_copy(update={"epochs": -(-steps // per_epoch), "graph_steps": 1})
    for step in train_steps(model, loader, train, device):
        yield step.windows
