"""Windows as a map-style data set, for torch's own DataLoader and what is built on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, default_collate, get_worker_info
from torch.utils.data._utils.collate import default_collate_fn_map

from tfa_perf.data.host_windows import HostWindows
from tfa_perf.data.table import WindowForm, float_dtype
from tfa_perf.data.window_set import NanPolicy, window_set

__all__ = ["WindowDataset"]


class WindowDataset(Dataset[tuple[torch.Tensor, ...]]):
    """Samples ``(x [T, F], y [1])``, one a window, in the order of the windows' last rows.

    A ``torch.utils.data.DataLoader`` fetches a batch in one gather: its default collation takes
    the batch as it was gathered. So does Lightning, and Accelerate, which shares batches among
    processes itself. Works in worker processes, forked or spawned; a spawned one maps a
    memory-mapped table again instead of receiving a copy.

    Parameters
    ----------
    X, y, window, horizon, stride, series, valid, span, embargo, nan, return_index, dtype :
        as for `WindowLoader`; X in main memory. With nan="mask" a sample is
        ``(x, y, mask [T])``; an index comes last.

    Raises
    ------
    ValueError, TypeError : as for `WindowLoader`.
    """

    def __init__(
        self,
        X: Any,
        y: Any = None,
        *,
        window: int,
        horizon: int = 0,
        stride: int = 1,
        series: Any = None,
        valid: Any = None,
        span: Any = None,
        embargo: int = 0,
        nan: NanPolicy = "error",
        return_index: bool = False,
        dtype: torch.dtype | None = None,
    ) -> None:
        found = window_set(
            X, y, window=window, horizon=horizon, stride=stride, series=series, valid=valid,
            span=span, embargo=embargo, nan=nan,
        )  # fmt: skip
        self._table, self._plan = found.table, found.plan
        if not isinstance(self._table.X, np.ndarray):
            raise ValueError(
                f"X: is on {self._table.X.device}, a data set needs it in main memory; pass "
                "X.cpu(), or use WindowLoader, which leaves it there"
            )
        x_dtype = found.table.dtype if dtype is None else float_dtype(dtype)
        self._form = WindowForm(window, horizon, x_dtype, found.unmasked, bool(return_index))
        self._source: HostWindows | None = None

    def __len__(self) -> int:
        return len(self._plan)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, ...]:
        """Sample ``i``; negative numbers count from the end. Raises IndexError beyond it."""
        return tuple(part[0] for part in self._batch([i + len(self) if i < 0 else i]))

    def __getitems__(self, indices: Sequence[int]) -> Sequence[tuple[torch.Tensor, ...]]:
        """The samples of ``indices``, gathered together, each a view of its part of the batch."""
        return _Samples(self._batch(indices))

    def _batch(self, indices: Sequence[int]) -> tuple[torch.Tensor, ...]:
        if self._source is None:
            # A worker has the processor to share with the others.
            threads = None if get_worker_info() is None else 1
            self._source = HostWindows(self._table, self._form, num_threads=threads)
        ends = self._plan.index.last_rows(np.asarray(indices, np.int64))
        return next(self._source.batches(ends, [len(ends)]))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_source": None}


class _Sample(tuple[torch.Tensor, ...]):
    """One sample of a `_Samples`; its type is how the default collation knows them."""


class _Samples(Sequence[tuple[torch.Tensor, ...]]):
    """The samples of a batch that is gathered already."""

    def __init__(self, batch: tuple[torch.Tensor, ...]) -> None:
        self.batch = batch

    def __len__(self) -> int:
        return len(self.batch[0])

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return _Samples(tuple(part[i] for part in self.batch))
        if not -len(self) <= i < len(self):
            raise IndexError(f"sample {i} of {len(self)}")
        return _Sample([part[i] for part in self.batch])


def _collate(samples: Sequence[_Sample], *, collate_fn_map: Any = None) -> Any:
    if isinstance(samples, _Samples):
        return list(samples.batch)
    return [default_collate(list(parts)) for parts in zip(*samples, strict=True)]


# The extension point that the documentation of default_collate names.
default_collate_fn_map[_Sample] = _collate
