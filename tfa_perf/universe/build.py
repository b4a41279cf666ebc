"""Features of a universe of symbols: planned here, made by workers, published when all is there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tfa_kernels import FeatureSpec, load_spec
from tfa_perf.data.labels import forward_return_labels
from tfa_perf.data.store_lock import only_writer
from tfa_perf.data.store_meta import StoreError
from tfa_perf.universe.builds import (
    Build,
    earlier_builds,
    finish,
    prepare,
    published_as,
    reusable,
)
from tfa_perf.universe.inputs import default_symbol, find_inputs, fingerprint
from tfa_perf.universe.partition import Counted, Earlier, Failed, Made, count, make
from tfa_perf.universe.processes import UsageError, Workers, pick_workers
from tfa_perf.universe.records import Plan, Recipe, Shard, Slot

__all__ = ["Partition", "Progress", "Universe", "build_universe"]


State = Literal["kept", "copied", "built", "failed"]


@dataclass(frozen=True)
class Partition:
    """What became of one file of bars.

    ``state`` is "kept" where its rows were there, "copied" where they came from an earlier build,
    "built", or "failed", and then ``reason`` says why.
    """

    file: str
    state: State
    rows: int
    symbols: int
    reason: str | None = None


@dataclass(frozen=True)
class Universe:
    """The result of a build; ``published`` unless a partition failed."""

    store: Path
    features: int
    partitions: tuple[Partition, ...]

    @property
    def published(self) -> bool:
        return not self.failed

    @property
    def failed(self) -> tuple[Partition, ...]:
        return tuple(each for each in self.partitions if each.state == "failed")


# Told what is done, partitions done of it, and of how many.
Progress = Callable[[str, int, int], None]


def build_universe(
    bars: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    store: str | os.PathLike[str],
    spec: str | os.PathLike[str] | Mapping[str, Any] | FeatureSpec,
    *,
    horizon: int = 1,
    min_volume: float | None = None,
    min_move: float | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: Progress | None = None,
) -> Universe:
    """Build features and labels of all bars into one store, which `open_store` opens.

    What an earlier run left is gone on with: partitions whose file, spec and labels are the same
    are not built again. While it is built, and where a partition fails, a store that was there
    stays as it was.

    Parameters
    ----------
    bars : files, or patterns as ``"data/*.parquet"``. A file is a partition, read by `read_bars`;
        all bars of a symbol are in one. Without a column ``symbol`` it is named after its folder
        ``symbol=NAME`` or itself.
    store : folder of the store. Rows are in the order of the files' paths.
    spec : see `load_spec`.
    horizon, min_volume, min_move : of the labels, see `forward_return_labels`.
    workers : local processes, by default one a core; 1 is this process. More need the package
        distributed, without which the default is 1.
    scheduler : address of a Dask cluster, as ``"tcp://host:8786"``. Its workers see bars and store
        under the same paths.
    progress : called with what is done, "counted" or "built", and how far it is.

    Raises
    ------
    BarsError : a pattern finds no file.
    SpecError : the spec is not valid.
    UsageError : another argument is not.
    ClusterError : the cluster cannot be reached or used, or was lost.
    StoreError : the store cannot be written; `NewerStoreError` where a later version wrote it.
    """
    path = Path(os.path.abspath(store))
    patterns = [bars] if isinstance(bars, (str, os.PathLike)) else bars
    files = find_inputs(patterns)
    recipe = _recipe(load_spec(spec), horizon, min_volume, min_move)
    start = pick_workers(scheduler, workers, len(files))
    if path.exists() and not path.is_dir():
        raise StoreError(f"{path}: is a file; give a folder")
    with only_writer(path), _started_late(start) as running:
        builds = earlier_builds(path)
        run = _Run(running, progress or (lambda what, done, total: None))
        plan, failed = run.plan(files, recipe, builds)
        found = published_as(path, plan, builds)
        if found is not None:
            there = [Made(shard, copied=False) for shard in found.shards]
            return _result(path, plan, there, failed, found.shards)
        if not plan.rows:
            return _result(path, plan, [None] * len(files), failed)
        folder, kept = prepare(path, plan, builds)
        made = run.build(folder, plan, kept, reusable(plan, builds, folder), failed)
        _refuse_repeated(plan, made, failed)
        if not failed:
            finish(path, folder, plan, [each.shard for each in made if each is not None])
        return _result(path, plan, made, failed, kept)


@dataclass(frozen=True)
class _Run:
    workers: Callable[[], Workers]
    progress: Progress

    def plan(
        self, files: Sequence[str], recipe: Recipe, builds: Sequence[Build]
    ) -> tuple[Plan, dict[int, str]]:
        """Rows for each file, and why some have none: the reason by partition."""
        known = {(slot.file, slot.fingerprint): slot.rows for slot in _slots(builds) if slot.rows}
        counted: dict[int, Counted] = {}
        failed: dict[int, str] = {}
        for number, file in enumerate(files):
            try:
                found = fingerprint(file)
            except OSError as error:
                failed[number] = str(error)
                continue
            if (file, found) in known:
                counted[number] = Counted(known[file, found], found)
        unknown = [n for n in range(len(files)) if n not in counted and n not in failed]
        results = self._run("counted", count, unknown, [(files[n],) for n in unknown])
        for number, result in results:
            if isinstance(result, Counted):
                counted[number] = result
            else:
                failed[number] = _reason(result)
        slots, first = [], 0
        for number, file in enumerate(files):
            rows, stamp = counted.get(number, (0, (0, 0)))
            slots.append(
                Slot(
                    file=file,
                    bytes=stamp[0],
                    mtime_ns=stamp[1],
                    symbol=default_symbol(file),
                    first=first,
                    rows=rows,
                )
            )
            first += rows
            if not rows:
                failed.setdefault(number, "holds no rows; write at least one bar")
        return Plan(recipe=recipe, slots=tuple(slots)), failed

    def build(
        self,
        folder: Path,
        plan: Plan,
        kept: Sequence[Shard | None],
        earlier: Sequence[Earlier | None],
        failed: dict[int, str],
    ) -> list[Made | None]:
        """Each partition's shard; None for those that are, or come to be, ``failed``."""
        made = [None if shard is None else Made(shard, False) for shard in kept]
        wanted = [n for n, each in enumerate(made) if each is None and n not in failed]
        if wanted:
            self.workers().meet(folder)
        calls = [(str(folder), n, earlier[n]) for n in wanted]
        for number, result in self._run("built", make, wanted, calls):
            if isinstance(result, Made):
                made[number] = result
            else:
                failed[number] = _reason(result)
        return made

    def _run(
        self,
        what: str,
        function: Callable[..., Any],
        numbers: Sequence[int],
        calls: Sequence[tuple[Any, ...]],
    ) -> Iterator[tuple[int, Any]]:
        if not calls:
            return
        self.progress(what, 0, len(calls))
        for done, (call, result) in enumerate(self.workers().run(function, calls), 1):
            yield numbers[call], result
            self.progress(what, done, len(calls))


@contextmanager
def _started_late(start: Callable[[], Workers]) -> Iterator[Callable[[], Workers]]:
    """Workers that exist from when they are first asked for until the context ends."""
    started: list[Workers] = []

    def running() -> Workers:
        if not started:
            started.append(start())
        return started[0]

    try:
        yield running
    except BaseException:
        for workers in started:
            workers.close(at_once=True)
        raise
    for workers in started:
        workers.close(at_once=False)


def _recipe(
    spec: FeatureSpec, horizon: int, min_volume: float | None, min_move: float | None
) -> Recipe:
    one = np.ones(1)
    try:
        forward_return_labels(one, horizon, volume=one, min_volume=min_volume, min_move=min_move)
    except ValueError as error:
        raise UsageError(str(error)) from None
    limits = [None if each is None else float(each) for each in (min_volume, min_move)]
    return Recipe.of(spec, int(horizon), *limits)


def _slots(builds: Sequence[Build]) -> Iterator[Slot]:
    for build in builds:
        yield from (shard.slot for shard in build.shards)
        yield from () if build.plan is None else build.plan.slots


def _reason(result: Any) -> str:
    if isinstance(result, Failed):
        return result.reason
    return f"{type(result).__name__}: {result}"


def _refuse_repeated(plan: Plan, made: Sequence[Made | None], failed: dict[int, str]) -> None:
    """A series goes on in no other file: its windows and features would not."""
    files: dict[str, str] = {}
    for number, each in enumerate(made):
        for symbol in () if each is None else each.shard.symbols:
            other = files.setdefault(symbol, plan.slots[number].file)
            if other != plan.slots[number].file:
                failed[number] = (
                    f"symbol {symbol!r} is in {other} too; write all bars of a symbol to one file"
                )
                break


def _result(
    path: Path,
    plan: Plan,
    made: Sequence[Made | None],
    failed: Mapping[int, str],
    kept: Sequence[Shard | None] = (),
) -> Universe:
    partitions = []
    there = {number for number, shard in enumerate(kept) if shard is not None}
    for number, (slot, each) in enumerate(zip(plan.slots, made, strict=True)):
        state: State = "failed"
        if number not in failed and each is not None:
            state = "kept" if number in there else "copied" if each.copied else "built"
        symbols = 0 if each is None else len(each.shard.symbols)
        partitions.append(Partition(slot.file, state, slot.rows, symbols, failed.get(number)))
    return Universe(path, len(plan.recipe.names), tuple(partitions))
