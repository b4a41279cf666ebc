"""The course of a run for TensorBoard, one point a validation."""

from __future__ import annotations

from pathlib import Path

from tfa_perf.train.csv_log import COLUMNS, LogError

__all__ = ["TAGS", "TensorBoardLog"]

TAGS = {
    "train_loss": "train/loss",
    "val_loss": "val/loss",
    "val_auc": "val/auc",
    "val_calibration_error": "val/calibration_error",
    "learning_rate": "lr",
}
"""Columns of the CSV log and the scalars that they become, against the step."""


class TensorBoardLog:
    """Writes event files into ``folder``, each point in the file before ``write`` returns.

    Parameters
    ----------
    folder : where ``tensorboard --logdir`` looks; it is made.
    after : TensorBoard hides points of earlier files there after this step, which a resumed run
        writes again; with 0 it hides them all.

    Raises
    ------
    LogError : the package tensorboard is not installed.
    OSError : the folder cannot be written.
    """

    def __init__(self, folder: Path, *, after: int = 0) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise LogError(
                "TensorBoard: the package tensorboard is needed; "
                "pip install 'tfa-perf[tensorboard]', or use --log FILE for a CSV file"
            ) from None
        folder.mkdir(parents=True, exist_ok=True)
        self._writer = SummaryWriter(str(folder), purge_step=after + 1)

    def write(self, *values: float) -> None:
        """Add a point to each scalar, from one value for each of ``COLUMNS``."""
        row = dict(zip(COLUMNS, values, strict=True))
        for column, tag in TAGS.items():
            self._writer.add_scalar(tag, row[column], int(row["step"]))
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()
