"""What is done with one file of bars, in whichever process: rows counted, features made.

Arguments are paths and numbers, results a few lines: bars and features stay in the process, which
reads and writes files itself, and holds one partition at a time.
"""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tfa_kernels import build_features
from tfa_perf import __version__
from tfa_perf.data.bars_file import count_bars, read_bars
from tfa_perf.data.labels import forward_return_labels
from tfa_perf.data.store_meta import array_shapes
from tfa_perf.universe.inputs import Fingerprint, fingerprint
from tfa_perf.universe.records import Plan, Recipe, Shard, Slot, read, remove, write
from tfa_perf.universe.rows import checksums, read_rows, write_rows

__all__ = ["Counted", "Earlier", "Failed", "Made", "count", "greet", "make"]

# A worker with several threads would hold as many partitions.
_one_at_a_time = threading.Lock()


class Failed(NamedTuple):
    """Why a file of bars has no shard."""

    reason: str


class Counted(NamedTuple):
    rows: int
    fingerprint: Fingerprint


class Made(NamedTuple):
    """A shard that is there, and whether its rows came from an earlier build."""

    shard: Shard
    copied: bool


@dataclass(frozen=True)
class Earlier:
    """A shard of an earlier build, whose arrays in ``folder`` have ``rows`` rows."""

    folder: str
    rows: int
    shard: Shard


def greet(folder: Path | None) -> str:
    """The version of tfa-perf, once the plan in ``folder``, if any, has been read and understood.

    Raises FileNotFoundError where this process does not see the folder, SpecError or ValueError
    where it does not know an op, or another one of that name.
    """
    if folder is not None:
        _plan_and_spec(str(folder))
    return __version__


def count(file: str) -> Counted | Failed:
    """How many bars ``file`` holds."""
    try:
        before = fingerprint(file)
        return Counted(count_bars(Path(file)), before)
    except (ValueError, OSError, MemoryError) as error:
        return _failed(file, error)


def make(folder: str, number: int, earlier: Earlier | None = None) -> Made | Failed:
    """Put the rows of partition ``number`` into the build in ``folder``, and its record.

    They are copied from ``earlier`` where these still have their checksum. A partition whose
    record is there already, from a worker that was lost after writing it, is left alone.
    """
    plan, spec = _plan_and_spec(folder)
    slot = plan.slots[number]
    record = Path(folder) / "shards" / f"{number:06}.json"
    with _one_at_a_time:
        try:
            found = read(record, Shard)
            if found is not None and found.slot == slot:
                return Made(found, copied=False)
            # Its rows are about to be overwritten.
            remove(record)
            rows = None if earlier is None else _copied(earlier, slot, plan.recipe)
            copied = earlier is not None and rows is not None
            symbols, offsets, arrays = rows or _built(slot, plan.recipe, spec)
            write_rows(Path(folder), slot.first, plan.rows, arrays)
            shard = Shard(slot=slot, symbols=symbols, offsets=offsets, crc32=checksums(arrays))
            # One that the disk loses costs its partition, syncing each more than that.
            write(record, shard, durable=False)
            return Made(shard, copied)
        except (ValueError, OSError, MemoryError) as error:
            return _failed(slot.file, error)


_Rows = tuple[tuple[str, ...], tuple[int, ...], dict[str, NDArray[Any]]]


def _built(slot: Slot, recipe: Recipe, spec: Any) -> _Rows:
    _check_unchanged(slot)
    threads = _worker_threads()
    # A file that nothing can read ends a worker at most; the others go on.
    bars = read_bars(Path(slot.file), apart=threads is None)
    if len(bars) != slot.rows:
        raise ValueError(f"holds {len(bars):,} bars, {slot.rows:,} were counted; write it again")
    features = np.empty(array_shapes(slot.rows, len(recipe.names))["features"], np.float32)
    build_features(bars, spec, features, num_threads=threads)
    labels = forward_return_labels(
        bars.close,
        recipe.horizon,
        offsets=bars.offsets,
        volume=bars.volume,
        min_volume=recipe.min_volume,
        min_move=recipe.min_move,
    )
    _check_unchanged(slot)
    symbols = (slot.symbol,) if bars.symbols == ("",) else bars.symbols
    arrays = {
        "features": features,
        "labels": labels.y,
        "trainable": labels.trainable,
        "ts": bars.ts,
    }
    return symbols, tuple(bars.offsets.tolist()), arrays


def _copied(earlier: Earlier, slot: Slot, recipe: Recipe) -> _Rows | None:
    """Rows of an earlier build; None where they are damaged."""
    shard = earlier.shard
    try:
        arrays = read_rows(
            Path(earlier.folder), shard.slot.first, slot.rows, earlier.rows, len(recipe.names)
        )
    except (ValueError, OSError):
        return None
    if checksums(arrays) != shard.crc32:
        return None
    return shard.symbols, shard.offsets, arrays


def _check_unchanged(slot: Slot) -> None:
    if fingerprint(slot.file) != slot.fingerprint:
        raise ValueError("has changed while the universe was built; run the same command again")


@lru_cache(maxsize=2)
def _plan_and_spec(folder: str) -> tuple[Plan, Any]:
    plan = read(Path(folder) / "plan.json", Plan)
    if plan is None:
        raise FileNotFoundError(f"{folder}: no plan of a build can be read here")
    spec = plan.recipe.feature_spec()
    if spec.hash != plan.recipe.spec_hash:
        raise ValueError("an op of the spec is another here; install the same tfa-kernels")
    return plan, spec


def _worker_threads() -> int | None:
    """Threads of the Dask worker that this runs in; None, for all there are, elsewhere."""
    if "distributed.worker" not in sys.modules:
        return None
    from distributed import get_worker

    from tfa_kernels._jit import resolve_threads

    try:
        return min(get_worker().state.nthreads, resolve_threads(None))
    except ValueError:
        return None


def _failed(file: str, error: Exception) -> Failed:
    reason = str(error) or type(error).__name__
    # The file is named beside the reason.
    return Failed(reason.removeprefix(f"{file}: "))
