"""Batches of windows over a table, on the CPU or on a device, in an order without a table."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Sampler

from tfa_kernels._jit import resolve_threads
from tfa_perf.data.block_pages import BlockPages
from tfa_perf.data.device_windows import ResidentWindows
from tfa_perf.data.host_windows import HostWindows
from tfa_perf.data.loader_stats import Meter
from tfa_perf.data.order import GivenOrder, Order, Shares, Shuffle, order_of
from tfa_perf.data.place import Place
from tfa_perf.data.prefetch import Prefetch
from tfa_perf.data.sent_windows import SentWindows
from tfa_perf.data.sources import choose_source
from tfa_perf.data.table import float_dtype
from tfa_perf.data.window_set import NanPolicy, checked_int, window_set

__all__ = ["Batch", "WindowBatches", "WindowLoader"]

Batch = tuple[torch.Tensor, ...]
_Item = tuple[Any, int]


class WindowBatches(Iterator[Batch]):
    """One pass over a loader's windows."""

    def __init__(self, loader: WindowLoader, items: Generator[_Item, None, None], depth: int):
        self._loader = loader
        self._items = Prefetch(items, depth, "tfa-perf-loader")

    def __next__(self) -> Batch:
        start = time.perf_counter()
        loader = self._loader
        try:
            made, loader._place.position = next(self._items)
        except StopIteration:
            loader._place.position = loader._count
            raise
        loader._meter.waited += time.perf_counter() - start
        source = loader._source
        return source.deliver(made) if isinstance(source, SentWindows) else made

    def close(self) -> None:
        """End the pass: its thread has ended when this returns."""
        self._items.close()


class WindowLoader:
    """Iterate over batches ``(x [b, T, F], y [b, 1])`` of windows of rows and their labels.

    Parameters
    ----------
    X : [N, F] float32, float16, bfloat16 or float64, rows contiguous: an array, a memory map, a
        tensor on the CPU or on ``device``, or a FeatureStore. It is not copied. A store brings
        labels, series, the rows where their features begin, valid rows, and its scaler where it
        is not applied yet: batches then hold ``(X - mean) * (1 / scale)``, computed in float32
        while the windows are gathered.
    y : [N] labels, one a row; only a store may go without.
    window, horizon : rows in a window, T, and rows from its last one to its label.
    stride : rows from the start of a window to that of the next one in the same series.
    series : int [S+1], first row of each series and N; no window, label included, crosses one.
    valid : bool [N], rows that a window may end at.
    span : (first, end) rows, or one pair a series [S, 2], that windows and their labels lie in;
        windows of two disjoint spans share no row.
    embargo : rows left out behind a cut that ``span`` makes inside a series.
    batch_size : windows in a batch; the last one of a pass may hold fewer.
    shuffle : a new order every epoch, the same on every machine and for any number of threads.
        "block" shuffles blocks of about 1 MB of rows, then the windows of every 64 of them among
        themselves: for tables larger than main memory.
    sampler : numbers of the windows to yield, 0..W-1 in the order of their rows, asked for again
        at the start of every pass; instead of ``shuffle``.
    generator : draws ``seed``.
    seed : with the epoch it names the order.
    drop_last : leave out a last step with fewer windows, over all ranks.
    nan : "error" refuses windows with a NaN, in rows or label; "drop" leaves them out; "mask"
        yields 0 for it and, third in the batch, bool [b, T], the rows without NaN (a window whose
        label is NaN is left out). The rows are read once for it.
    return_index : int64 [b], the windows' last rows, last in the batch.
    dtype : of x, that of X by default; converted while gathering.
    device : where batches are wanted. On a device the table is kept there whole and windows are
        cut there. If it does not fit, the reason is logged, and each batch sends the rows that it
        covers, or its windows where they lie apart. ``mode`` says which of them it is.
    pin_memory : CPU batches in page-locked memory.
    prefetch : batches that a thread makes ahead; 0 for none. Unless they are pinned it gathers
        with one core, the consumer has the others. Windows of a table on a device need none.
    num_threads : threads of the CPU gather; default all that Numba uses.
    rank, world_size : of a run on several processes, by default torch.distributed's. Each step
        takes ``world_size * batch_size`` windows of one order, one share a rank. Ranks have
        equally many batches with ``drop_last``; else a rank may have one fewer.

    overlapping : on a CPU, a batch whose windows begin row after row may be a view of one copy of
        its rows, in which windows share memory: read it, do not write to it. `WindowEncoder`
        projects the rows of such a batch once.

    Raises
    ------
    ValueError, TypeError : an argument does not fit, or no window is left; the message names it.

    A yielded batch is never overwritten while any part of it is alive.
    """

    def __init__(
        self,
        X: Any,
        y: Any = None,
        *,
        window: int,
        horizon: int = 0,
        stride: int = 1,
        batch_size: int = 1024,
        series: Any = None,
        valid: Any = None,
        span: Any = None,
        embargo: int = 0,
        shuffle: Shuffle = False,
        sampler: Sequence[int] | Sampler[int] | None = None,
        generator: torch.Generator | None = None,
        seed: int = 0,
        drop_last: bool = False,
        nan: NanPolicy = "error",
        return_index: bool = False,
        dtype: torch.dtype | None = None,
        device: torch.device | str = "cpu",
        pin_memory: bool = False,
        prefetch: int = 2,
        num_threads: int | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        overlapping: bool = False,
    ) -> None:
        if shuffle not in (True, False, "block"):
            raise ValueError(f'shuffle: False, True or "block" is needed, got {shuffle!r}')
        if sampler is not None and shuffle:
            raise ValueError("sampler: gives the order, so shuffle must be False")
        found = window_set(
            X, y, window=window, horizon=horizon, stride=stride, series=series, valid=valid,
            span=span, embargo=embargo, nan=nan,
        )  # fmt: skip
        self._table, self._plan = found.table, found.plan
        self._sampler = sampler
        self._prefetch = checked_int("prefetch", prefetch, 0)
        seed = checked_int("seed", seed, 0)
        if generator is not None:
            seed = int(torch.randint(2**62, (), generator=generator))
        self._place = Place(shuffle, seed)
        self.batch_size = checked_int("batch_size", batch_size, 1)
        self._shares = Shares.of(self.batch_size, drop_last, rank, world_size)
        self._passes: weakref.WeakSet[WindowBatches] = weakref.WeakSet()
        self._num_threads = resolve_threads(num_threads)
        x_dtype = found.table.dtype if dtype is None else float_dtype(dtype)
        self._source, self.mode = choose_source(
            found,
            torch.device(device),
            x_dtype,
            in_order=not shuffle and sampler is None,
            return_index=bool(return_index),
            pin_memory=pin_memory,
            num_threads=self._num_threads,
            overlapping=bool(overlapping),
        )
        self._meter = Meter(
            self.mode,
            self._source.device,
            found.plan.window * found.table.columns * x_dtype.itemsize,
            getattr(self._source, "events", ()),
        )

    @property
    def windows(self) -> int:
        """Windows that one whole pass yields on this rank."""
        return self._shares.windows(self._count)

    @property
    def _count(self) -> int:
        return len(self._plan) if self._sampler is None else len(self._sampler)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return self._shares.steps(self._count)

    @property
    def world_size(self) -> int:
        return self._shares.world_size

    @property
    def steps(self) -> int:
        """Steps of a whole pass over all ranks: ``len``, or one more where it ends earlier here."""
        return self._shares.steps_of_all(self._count)

    def step_windows(self) -> Iterator[tuple[int, int]]:
        """Windows of each step of the pass that begins next: on this rank, and over all ranks.

        A last step with fewer windows than ranks has none on some of them, which yield no batch.
        """
        return self._shares.sizes(self._place.resume_at, self._count)

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next pass; a pass does not advance the epoch by itself.

        After `load_state_dict`, naming its epoch keeps the place in it.
        """
        epoch = checked_int("epoch", epoch, 0)
        self._place.set_epoch(epoch)
        set_epoch = getattr(self._sampler, "set_epoch", None)
        if set_epoch is not None:
            set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Where the latest pass is, for `load_state_dict` on any number of ranks.

        It counts the batches that were taken, not those made ahead, and every rank has the same
        after the same step.
        """
        return self._place.state_dict(self._count)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next pass go on where `state_dict` was taken, in O(1).

        ``batch_size``, ``rank`` and ``world_size`` may differ; windows and shuffle may not.
        """
        self._place.load_state_dict(state, self._count)

    def __iter__(self) -> WindowBatches:
        start = self._place.begin()
        depth = 0 if isinstance(self._source, ResidentWindows) else self._prefetch
        batches = WindowBatches(self, self._produce(self._order(), start), depth)
        self._passes.add(batches)
        return batches

    @property
    def gather_on_device(self) -> Callable[[torch.Tensor], Batch] | None:
        """Batches of windows by their last rows, int64 [b] on the device, without a loader's pass.

        For steps that gather by themselves, in a CUDA graph; None unless the table is on a device.
        """
        return self._source.windows if isinstance(self._source, ResidentWindows) else None

    def operands_on_device(self, dtype: torch.dtype) -> Callable[[torch.Tensor], Batch] | None:
        """`gather_on_device` for a model that begins with a product of x rounded to ``dtype``.

        x [b, T, F] is that already, in one kernel from the table on, and its rows lie a power of 2
        apart with 0 between them: it is not contiguous.
        """
        source = self._source
        return source.operands(dtype) if isinstance(source, ResidentWindows) else None

    def row_batches(self) -> Iterator[NDArray[np.int64]]:
        """A pass of last rows, int64 [b] on the host, one array for each batch; no windows."""
        start = self._place.begin()
        for some, ends in self._groups(self._order(), start):
            done = 0
            for first, end, position in some:
                self._place.position = position
                yield ends[done : done + end - first]
                done += end - first
        self._place.position = self._count

    def close(self) -> None:
        """End the passes that are under way, and let go of buffers that nobody holds."""
        for batches in list(self._passes):
            batches.close()
        if isinstance(self._source, HostWindows):
            self._source.close()

    def stats(self) -> dict[str, Any]:
        """Speed of the batches made so far, next to a plain copy of as many bytes measured now.

        ``bytes_per_second`` of x, timed by events for a table on a device and by the clock of the
        thread that makes batches otherwise; ``memcpy_bytes_per_second`` of torch's copy on the
        CPU, on the device, or from pinned memory to it, and ``memcpy_percent`` of it;
        ``wait_seconds`` that the consumer spent waiting, ``seconds`` that making batches took,
        ``batches``, ``windows``, ``bytes`` and ``mode``. Waits for a device.
        """
        return self._meter.summary()

    def _order(self) -> Order:
        if self._sampler is not None:
            return GivenOrder(np.fromiter(self._sampler, np.int64))
        row_bytes = max(1, self._table.nbytes // len(self._table)) * self._plan.stride
        place = self._place
        return order_of(
            place.shuffle, len(self._plan), place.seed, place.epoch, row_bytes, self._num_threads
        )

    def _produce(self, order: Order, start: int) -> Generator[_Item, None, None]:
        pages = BlockPages.of(self._table, self._plan, order)
        try:
            for some, ends in self._groups(order, start):
                if pages is not None:
                    pages.reach(some[0][0], some[-1][1])
                batches = self._source.batches(ends, [end - first for first, end, _ in some])
                for first, end, position in some:
                    # No name for the batch: this frame would keep its buffer in use.
                    yield self._meter.timed(batches, end - first), position
        finally:
            # However the pass ends.
            if pages is not None:
                pages.reach(0, 0)

    def _groups(
        self, order: Order, start: int
    ) -> Iterator[tuple[list[tuple[int, int, int]], NDArray[np.int64]]]:
        """Steps (first, end, position after), several at a time, and their windows' last rows."""
        for some, windows in self._shares.groups(order, start):
            yield some, self._plan.index.last_rows(windows)
