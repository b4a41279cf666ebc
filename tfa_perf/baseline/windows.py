"""The report's window dataset: one Python-level copy per window, one buffer for all batches."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import IterableDataset

__all__ = ["SeqWindows"]


class SeqWindows(IterableDataset[tuple[torch.Tensor, torch.Tensor]]):
    """Batches of windows ending at rows ``start .. end``, in order.

    ``X`` float32 [N, F], ``y`` float32 [N, 1]. As in the report, every batch is a view of the
    same buffer: the next batch overwrites it.
    """

    def __init__(
        self,
        X: NDArray[np.float32],
        y: NDArray[np.float32],
        T: int,
        start: int,
        end: int,
        batch: int,
    ) -> None:
        self.X, self.y, self.T = X, y, T
        self.start, self.end, self.batch = start, end, batch

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        B = self.batch
        i = self.start
        T, F = self.T, self.X.shape[1]

        bx = np.empty((B, T, F), dtype=np.float32)
        by = np.empty((B, 1), dtype=np.float32)

        while i <= self.end:
            j = min(self.end + 1, i + B)
            L = j - i

            for k, idx in enumerate(range(i, j)):
                lo = idx - T + 1
                bx[k] = self.X[lo : idx + 1]
                by[k, 0] = self.y[idx, 0]

            yield torch.from_numpy(bx[:L]), torch.from_numpy(by[:L])
            i = j
