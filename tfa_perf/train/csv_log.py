"""The course of a run as a CSV file, one row a validation."""

from __future__ import annotations

import csv
import os
from pathlib import Path

from tfa_perf.train.written import naming

__all__ = ["COLUMNS", "CsvLog", "LogError"]

COLUMNS = (
    "epoch",
    "step",
    "seconds",
    "learning_rate",
    "train_loss",
    "val_loss",
    "val_auc",
    "val_calibration_error",
)

_HEADER = ",".join(COLUMNS).encode()


class LogError(ValueError):
    """A file that is no training log."""


class CsvLog:
    """Appends rows to ``path``, each in the file before ``write`` returns.

    Parameters
    ----------
    path : the file; its folder is made.
    after : keep the rows of a file that is there up to this step and drop later ones, which a
        resumed run writes again; with 0 a log starts anew.

    Raises
    ------
    LogError : the file that is there is no training log, or has rows that do not parse.
    OSError : it cannot be written.
    """

    def __init__(self, path: Path, *, after: int = 0) -> None:
        rows = _rows(path, after) if path.exists() and (after or path.stat().st_size) else []
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        with naming(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with temporary.open("w", newline="", encoding="utf-8") as file:
                    csv.writer(file).writerows([COLUMNS, *rows])
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
        self._path = path

    def write(self, *values: float) -> None:
        """Append a row, one value for each of ``COLUMNS``."""
        if len(values) != len(COLUMNS):
            raise ValueError(f"values: {len(COLUMNS)} are needed, got {len(values)}")
        with naming(self._path), self._path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow(values)


def _rows(path: Path, after: int) -> list[list[str]]:
    with path.open("rb") as file:
        first = file.readline(len(_HEADER) + 1)
    if first.rstrip(b"\r\n") != _HEADER:
        raise LogError(
            f"{path}: is there and no training log, its first line is not "
            f"{_HEADER.decode()!r}; choose another file"
        )
    if not after:
        return []
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        rows = [*csv.reader(line.replace("\0", "?") for line in file)][1:]
    step = COLUMNS.index("step")
    kept = []
    for number, row in enumerate(rows, 2):
        # A machine that went down may have left the last row torn.
        if len(row) == len(COLUMNS) and row[step].isdecimal():
            if int(row[step]) <= after:
                kept.append(row)
        elif number <= len(rows):
            raise LogError(f"{path}, line {number}: no row of a training log")
    return kept
