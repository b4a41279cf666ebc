"""What the claims are measured on: the report's config, a table of features, and sizes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from tfa_perf.baseline.windows import SeqWindows
from tfa_perf.claims.paired import Comparison, compare
from tfa_perf.config import Config, load_config
from tfa_perf.data.bars import load_bars
from tfa_perf.data.dataset import build_dataset

__all__ = ["ClaimsError", "OutputsDiffer", "Sizes", "Workload"]


class ClaimsError(ValueError):
    """Bars or arguments that the claims cannot be measured on."""


class OutputsDiffer(RuntimeError):
    """Two sides compute different things: their times say nothing about each other."""


@dataclass(frozen=True)
class Sizes:
    """Windows and seconds that the measurements take.

    ``batch`` windows a step of most claims, ``report_batch`` where the report's own batch is
    wanted, ``epoch`` windows of a whole epoch, ``budget_s`` for the rounds of one comparison,
    ``rows`` of the tables that are written to disk.
    """

    batch: int
    report_batch: int
    epoch: int
    budget_s: float
    rows: int

    @classmethod
    def of(cls, device: torch.device, quick: bool) -> Sizes:
        if device.type == "cuda":
            return cls(1024, 1024, 2048 if quick else 65_536, 3.0 if quick else 15.0, 100_000)
        if quick:
            return cls(64, 64, 256, 2.0, 50_000)
        return cls(256, 1024, 2048, 10.0, 200_000)


@dataclass(frozen=True)
class Workload:
    """Features ``X`` float32 [N, F], labels ``y`` float32 [N], and the two configs.

    ``train_ends`` and ``val_ends`` are the last rows of the windows of either part, for the
    report's T; shorter windows end at the same rows.
    """

    X: NDArray[np.float32]
    y: NDArray[np.float32]
    train_ends: NDArray[np.int64]
    val_ends: NDArray[np.int64]
    device: torch.device
    sizes: Sizes
    bars: str
    folder: Path
    report: Config = field(default_factory=lambda: load_config("report"))
    tuned: Config = field(default_factory=lambda: load_config("tuned"))

    @classmethod
    def prepare(cls, bars: str, device: torch.device, folder: Path, *, quick: bool) -> Workload:
        """Build the features of ``bars`` and keep them in ``folder`` for other processes.

        Raises
        ------
        BarsError, SplitError : the bars cannot be read, or are too few.
        ClaimsError : several series, of which the report's loop knows nothing.
        """
        loaded = load_bars(bars)
        if len(loaded.symbols) > 1:
            raise ClaimsError(
                f"bars: {len(loaded.symbols)} symbols, but the report's loader knows one series; "
                "give the bars of one symbol"
            )
        data = build_dataset(loaded, load_config("report").data)
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "X.npy", data.X)
        np.save(folder / "y.npy", data.y)
        np.save(folder / "train_ends.npy", data.split.train_ends)
        np.save(folder / "val_ends.npy", data.split.val_ends)
        about = {"bars": bars, "device": str(device), "quick": quick}
        (folder / "workload.json").write_text(json.dumps(about), encoding="utf-8")
        return cls.load(folder)

    @classmethod
    def load(cls, folder: Path) -> Workload:
        """What `prepare` left in ``folder``."""
        about = json.loads((folder / "workload.json").read_text(encoding="utf-8"))
        names = ("X", "y", "train_ends", "val_ends")
        X, y, train_ends, val_ends = (np.load(folder / f"{name}.npy") for name in names)
        device = torch.device(about["device"])
        sizes = Sizes.of(device, about["quick"])
        return cls(X, y, train_ends, val_ends, device, sizes, about["bars"], folder)

    @property
    def features(self) -> int:
        return self.X.shape[1]

    def fitting(self, batch: int) -> int:
        """``batch``, or as many windows as there are."""
        return min(batch, len(self.train_ends))

    def windows_as_written(self, window: int, batch: int, most: int | None = None) -> SeqWindows:
        """The report's dataset over the first training windows, in whole batches."""
        batch = self.fitting(batch)
        count = len(self.train_ends) // batch * batch
        count = min(count, most // batch * batch) if most and most >= batch else count
        first = int(self.train_ends[0])
        return SeqWindows(self.X, self.y[:, None], window, first, first + count - 1, batch)

    def batches_as_written(self, window: int, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The report's loader, over and over."""
        loader = DataLoader(self.windows_as_written(window, batch), batch_size=None)
        while True:
            yield from loader

    def batch_on_device(self, window: int, batch: int) -> tuple[Tensor, Tensor]:
        """The first batch as a copy of its own."""
        x, y = next(self.batches_as_written(window, batch))
        return x.clone().to(self.device), y.clone().to(self.device)

    def versus(self, base: Callable[[], object], other: Callable[[], object]) -> Comparison:
        """`compare` of two sides, in the time that one comparison has."""
        sides = {"other": other}
        return compare(base, sides, budget_s=self.sizes.budget_s, device=self.device)["other"]

    def describe(self, window: int, batch: int, model: str = "d128 h8 L3 f256") -> str:
        return f"{self.bars}, T {window}, F {self.features}, {model}, batch {self.fitting(batch)}"
