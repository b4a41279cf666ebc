"""The report's cache: whole arrays through ``np.save``, read back whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["load_cache", "save_cache"]


def save_cache(out_dir: Path, X: NDArray[np.floating], y: NDArray[np.floating]) -> None:
    """Write ``X.npy`` and ``y.npy`` into ``out_dir``."""
    np.save(out_dir / "X.npy", X.astype(np.float32, copy=False))
    np.save(out_dir / "y.npy", y.astype(np.float32, copy=False))


def load_cache(out_dir: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Read both arrays into memory."""
    return np.load(out_dir / "X.npy"), np.load(out_dir / "y.npy")
