"""The sizes that sweeps go through."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Sizes"]


@dataclass(frozen=True)
class Sizes:
    """Rows, features, windows and batches of the sweeps.

    ``table`` is the number of rows where something else grows, ``budget_s`` the seconds that a
    side has at a size.
    """

    rows: tuple[int, ...]
    features: tuple[int, ...]
    windows: tuple[int, ...]
    batches: tuple[int, ...]
    step_windows: tuple[int, ...]
    step_batches: tuple[int, ...]
    table: int
    budget_s: float

    @classmethod
    def of(cls, *, quick: bool) -> Sizes:
        if quick:
            return cls(
                rows=(10_000, 30_000, 100_000, 300_000),
                features=(8, 32, 128),
                windows=(8, 32, 128),
                batches=(64, 512, 4096),
                step_windows=(8, 32, 128),
                step_batches=(16, 64, 256),
                table=50_000,
                budget_s=1.5,
            )
        return cls(
            rows=(10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000),
            features=(4, 8, 16, 32, 64, 128, 256),
            windows=(4, 8, 16, 32, 64, 128, 256),
            batches=(16, 64, 256, 1024, 4096, 16_384),
            step_windows=(8, 16, 32, 64, 128, 256),
            step_batches=(16, 32, 64, 128, 256, 512, 1024),
            table=100_000,
            budget_s=8.0,
        )
