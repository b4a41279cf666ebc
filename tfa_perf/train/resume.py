"""Going on with a run from its last checkpoint, and what must not differ then."""

from __future__ import annotations

import reprlib
from pathlib import Path
from typing import Any

import torch

from tfa_perf.config import Config, TrainConfig
from tfa_perf.data.dataset import Dataset
from tfa_perf.data.loader import WindowLoader
from tfa_perf.train.bf16 import probed
from tfa_perf.train.checkpoint import CheckpointError
from tfa_perf.train.early_stopping import EarlyStopping
from tfa_perf.train.model import WindowEncoder
from tfa_perf.train.trainer import Trainer

__all__ = ["last_checkpoint", "resume_from", "with_amp_known"]

# Lists of lists of a file of others may go on for ever.
_SHORT = reprlib.Repr()
_SHORT.maxlevel = 2
# A file may have moved; whether it still holds the same bars, the scaler tells.
_MAY_DIFFER = (
    *("bars", "features", "epochs", "patience", "checkpoint_every", "log_every"),
    # The same sums, by other kernels: another machine may want others.
    *("threads", "micro_batch", "compile", "graph", "graph_steps"),
)


def with_amp_known(
    config: Config,
    content: dict[str, Any] | None,
    model: WindowEncoder,
    loader: WindowLoader,
    device: torch.device,
) -> Config:
    """``config`` with what amp="probe" finds, or found in the run that is resumed."""
    if config.train.amp != "probe":
        return config
    if content is not None and "config" in content:
        try:
            amp = TrainConfig(amp=content["config"]["train"]["amp"]).amp
        except (KeyError, TypeError, ValueError):
            raise CheckpointError("the checkpoint holds no train.amp") from None
        train = config.train.model_copy(update={"amp": amp})
    else:
        train = probed(config.train, model, loader, device)
    return config.model_copy(update={"train": train})


def resume_from(
    path: Path,
    content: dict[str, Any],
    config: Config,
    dataset: Dataset,
    trainer: Trainer,
    stopping: EarlyStopping,
) -> None:
    """Put a run back to where ``content`` was written to ``path``.

    Raises CheckpointError where it was written under another config or with other bars; only
    what decides when the run ends, what it reports and by which kernels it computes may differ.
    """
    if not {"config", "scaler", "trainer", "stopping"} <= content.keys():
        raise CheckpointError(f"{path}: holds a model, not a run to resume; use last.pt")
    try:
        _check_same_run(path, content, config, dataset)
        trainer.load_state_dict(content["trainer"])
        stopping.load_state_dict(content["stopping"])
    except CheckpointError:
        raise
    except Exception as error:  # a file of others may hold anything in the place of anything
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise CheckpointError(f"{path}: does not hold what a run writes ({reason})") from error


def _check_same_run(path: Path, content: dict[str, Any], config: Config, dataset: Dataset) -> None:
    own = config.model_dump()
    for section, values in content["config"].items():
        for key, value in values.items():
            if key not in _MAY_DIFFER and own[section].get(key) != value:
                raise CheckpointError(
                    f"{path}: the run has {section}.{key} = {_SHORT.repr(value)}, here it is "
                    f"{own[section].get(key)!r}; resume with the config of the run"
                )
    if content["scaler"] != dataset.scaler.to_dict():
        raise CheckpointError(
            f"{path}: the run had other training rows (mean and scale of the features differ); "
            "resume with its bars"
        )


def last_checkpoint(checkpoints: Path | None) -> Path:
    """Where a run with that folder goes on; CheckpointError without one."""
    if checkpoints is None:
        raise CheckpointError("resume: name the folder of the checkpoints too")
    return checkpoints / "last.pt"
