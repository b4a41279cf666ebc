"""The map-style data set that trainers on windows begin with."""

from __future__ import annotations

import numpy as np
import torch
from torch.utils.data import Dataset


class Windows(Dataset):
    """Samples ``(x [T, F], y [1])``, one a window, in the order of their last rows."""

    def __init__(self, X: np.ndarray, y: np.ndarray, T: int) -> None:
        self.X, self.y, self.T = torch.from_numpy(X), torch.from_numpy(y), T

    def __len__(self) -> int:
        return len(self.X) - self.T + 1

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.X[i : i + self.T], self.y[i + self.T - 1, None]
