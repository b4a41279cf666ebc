"""What a run computes with: loaders, model, criterion and trainer, made from its config."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tfa_perf.config import Config, ConfigError
from tfa_perf.data.dataset import Dataset
from tfa_perf.data.loader import WindowLoader
from tfa_perf.train.bce import BinaryCrossEntropy
from tfa_perf.train.model import WindowEncoder
from tfa_perf.train.model_size import check_memory
from tfa_perf.train.ranks import ALONE, Ranks
from tfa_perf.train.resume import with_amp_known
from tfa_perf.train.step import Criterion
from tfa_perf.train.trainer import Trainer

__all__ = ["Setup", "make_criterion", "make_loader", "set_up"]


@dataclass(frozen=True)
class Setup:
    """A run that is ready to begin; ``config`` has what was measured in place of "probe"."""

    config: Config
    model: WindowEncoder
    trainer: Trainer
    val_loader: WindowLoader


def set_up(
    config: Config,
    dataset: Dataset,
    device: torch.device,
    *,
    ranks: Ranks = ALONE,
    content: dict[str, Any] | None = None,
) -> Setup:
    """Make what a run needs; ``content`` is the checkpoint that it will go on from.

    Raises ConfigError where ``config`` does not fit the data, the memory or the number of ranks,
    or where the ranks have other configs or bars.
    """
    _check_alike(config, dataset, ranks)
    check_memory(config, dataset.X.shape[1], device)
    train_loader = make_loader(dataset, config, device, ranks=ranks)
    val_loader = make_loader(dataset, config, device, part="val", ranks=ranks)
    torch.manual_seed(config.train.seed)
    model = WindowEncoder(dataset.X.shape[1], config.model, window=config.data.window).to(device)
    if ranks.several:
        # The same weights everywhere, but not the same dropout.
        torch.manual_seed(config.train.seed + (ranks.rank << 32))
    config = ranks.from_first(lambda: with_amp_known(config, content, model, train_loader, device))
    criterion = make_criterion(config, dataset, device)
    trainer = Trainer(model, train_loader, config.train, device, criterion=criterion, ranks=ranks)
    return Setup(config, model, trainer, val_loader)


def make_loader(
    dataset: Dataset,
    config: Config,
    device: torch.device,
    *,
    part: str = "train",
    ranks: Ranks = ALONE,
) -> WindowLoader:
    """Loader over the "train" or the "val" windows of ``dataset``, or over this rank's share.

    Raises ConfigError where the batch does not divide among the ranks.
    """
    size, left = divmod(config.train.batch_size, ranks.world_size)
    if left:
        fits = max(size, 1) * ranks.world_size
        raise ConfigError(
            f"train.batch_size: {config.train.batch_size} windows do not divide among "
            f"{ranks.world_size} processes; use a multiple of {ranks.world_size}, as {fits}"
        )
    training = part == "train"
    valid = np.zeros(len(dataset.X), np.bool_)
    valid[dataset.split.train_ends if training else dataset.split.val_ends] = True
    # As many as torchrun gives each process of a host, which OMP_NUM_THREADS says.
    threads = torch.get_num_threads() if ranks.several else None
    return WindowLoader(
        dataset.X if dataset.store is None else dataset.store,
        dataset.y,
        window=config.data.window,
        valid=valid,
        batch_size=size,
        shuffle=config.train.shuffle if training else False,
        seed=config.train.seed,
        device=device,
        num_threads=config.train.threads or threads,
        rank=ranks.rank,
        world_size=ranks.world_size,
        overlapping=True,
    )


def _check_alike(config: Config, dataset: Dataset, ranks: Ranks) -> None:
    # Files differ from host to host; ranks with other steps would wait for one another for ever.
    rows = (len(dataset.X), dataset.scaler.to_dict())
    alike = ranks.gathered((config.model_dump(exclude={"data": {"bars", "features"}}), rows))
    for rank, (other, other_rows) in enumerate(alike):
        for what, same in (("config", other == alike[0][0]), ("bars", other_rows == alike[0][1])):
            if not same:
                raise ConfigError(
                    f"{what}: differs between process 0 and process {rank}; give all the same"
                )


def make_criterion(config: Config, dataset: Dataset, device: torch.device) -> Criterion | None:
    """Binary cross entropy with the config's ``pos_weight``; None where it has none.

    Raises ConfigError for "balanced" where all training windows have the same label.
    """
    weight = config.train.pos_weight
    if weight is None:
        return None
    if weight == "balanced":
        labels = dataset.y[dataset.split.train_ends]
        positive = float(labels.sum())
        if not 0 < positive < len(labels):
            raise ConfigError(
                "train.pos_weight: balanced needs both labels among the training windows, "
                f"{positive:.0f} of {len(labels)} are 1; use a number"
            )
        weight = (len(labels) - positive) / positive
    return BinaryCrossEntropy(torch.tensor(float(weight), device=device))
