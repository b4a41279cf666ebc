"""The builds that lie in a store's folder: which one is gone on with, what is taken from others."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfa_perf.data.labels import LabelRule
from tfa_perf.data.store import open_store
from tfa_perf.data.store_files import (
    DATA_OR_BUILD,
    make_arrays,
    new_build,
    publish,
    published_name,
    sync,
    tidy,
)
from tfa_perf.data.store_meta import (
    DTYPES,
    NewerStoreError,
    StoreError,
    array_shapes,
    check_meta,
    new_meta,
    read_meta,
)
from tfa_perf.universe.checksum import joined_crc32
from tfa_perf.universe.partition import Earlier
from tfa_perf.universe.records import Index, Plan, Recipe, Shard, read, write
from tfa_perf.universe.rows import checksums, data_offset, row_bytes

__all__ = ["Build", "earlier_builds", "finish", "prepare", "published_as", "reusable"]


@dataclass(frozen=True)
class Build:
    """An earlier build; ``plan`` is None where it is the published one."""

    folder: Path
    recipe: Recipe
    rows: int
    shards: tuple[Shard, ...]
    plan: Plan | None = None


def earlier_builds(path: Path) -> list[Build]:
    """What lies in the folder ``path``, the published build first.

    Raises NewerStoreError where a later version wrote some of it.
    """
    try:
        published = read_meta(path)["data"]
    except NewerStoreError:
        raise
    except StoreError:
        published = None
    builds = []
    for folder in sorted(path.iterdir(), key=lambda entry: (entry.name != published, entry.name)):
        if not DATA_OR_BUILD.fullmatch(folder.name) or folder.is_symlink():
            continue
        if folder.name == published:
            index = read(folder / "index.json", Index)
            if index is not None:
                rows = sum(shard.slot.rows for shard in index.shards)
                builds.append(Build(folder, index.recipe, rows, index.shards))
            continue
        plan = read(folder / "plan.json", Plan)
        if plan is not None:
            records = sorted((folder / "shards").glob("*.json"))
            shards = (read(record, Shard) for record in records)
            whole = tuple(shard for shard in shards if shard is not None)
            builds.append(Build(folder, plan.recipe, plan.rows, whole, plan))
    return builds


def published_as(path: Path, plan: Plan, builds: Sequence[Build]) -> Build | None:
    """The published build where it is what ``plan`` asks for and its files are there."""
    for build in builds:
        slots = tuple(shard.slot for shard in build.shards)
        if build.plan is None and (build.recipe.same, slots) == (plan.recipe.same, plan.slots):
            try:
                open_store(path)
            except StoreError:
                return None
            return build
    return None


def prepare(path: Path, plan: Plan, builds: Sequence[Build]) -> tuple[Path, list[Shard | None]]:
    """The folder that ``plan`` is built in, and the shards that are there, by partition.

    An unfinished build of the same layout is gone on with under a new name: whatever still runs of
    an earlier run no longer finds it.

    Raises StoreError where there is no room or the folder cannot be written.
    """
    folder = new_build(path)
    try:
        for build in builds:
            if build.plan is not None and build.plan.layout == plan.layout and _has_arrays(build):
                os.rename(build.folder, folder)
                write(folder / "plan.json", plan)
                found = {shard.slot: shard for shard in build.shards}
                return folder, [found.get(slot) for slot in plan.slots]
        _tidy_unfinished(path, builds)
        _reserve(folder, plan)
    except OSError as error:
        raise StoreError(
            f"{path}: cannot hold {plan.rows:,} rows of {len(plan.recipe.names)} features: "
            f"{error}; choose a folder with room that can be written"
        ) from error
    return folder, [None] * len(plan.slots)


def reusable(plan: Plan, builds: Sequence[Build], folder: Path) -> list[Earlier | None]:
    """By partition, a shard of another build than that in ``folder`` that has the same rows."""
    found: dict[tuple[Any, ...], Earlier] = {}
    for build in builds:
        if build.recipe.same == plan.recipe.same and build.folder.exists():
            for shard in build.shards:
                slot = shard.slot
                earlier = Earlier(str(build.folder), build.rows, shard)
                found.setdefault((slot.file, slot.fingerprint, slot.symbol, slot.rows), earlier)
    wanted = ((slot.file, slot.fingerprint, slot.symbol, slot.rows) for slot in plan.slots)
    return [found.get(each) for each in wanted]


def finish(path: Path, folder: Path, plan: Plan, shards: Sequence[Shard]) -> None:
    """Publish the build in ``folder``, all of whose ``shards`` are there.

    Raises StoreError where the disk refuses; what was published before is then still there.
    """
    recipe = plan.recipe
    meta = new_meta(
        data=published_name(folder),
        rows=plan.rows,
        names=recipe.names,
        spec_hash=recipe.spec_hash,
        convention=recipe.convention,
        symbols=[symbol for shard in shards for symbol in shard.symbols],
        offsets=_offsets(shards),
        first_valid=recipe.first_valid,
        label_rule=LabelRule(recipe.horizon, recipe.min_volume, recipe.min_move),
        scaler=None,
        scaled=False,
    )
    try:
        for name in DTYPES:
            meta["files"][f"{name}.npy"] = _described(folder, name, plan, shards)
        check_meta(meta)
        write(folder / "index.json", Index(recipe=recipe, shards=tuple(shards)))
        publish(path, folder, meta)
        sync(path)
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: cannot be published: {error}; run the command again") from error
    data = path / meta["data"]
    shutil.rmtree(data / "shards", ignore_errors=True)
    (data / "plan.json").unlink(missing_ok=True)
    tidy(path, data)


def _tidy_unfinished(path: Path, builds: Sequence[Build]) -> None:
    """Leave one unfinished build, the fullest: each takes the room of a whole store."""
    unfinished = [build for build in builds if build.plan is not None]
    kept = [max(unfinished, key=lambda build: len(build.shards)).folder] if unfinished else []
    # What is published stays until another is, also where it is no universe.
    with suppress(StoreError):
        kept.append(path / read_meta(path)["data"])
    tidy(path, *kept)


def _reserve(folder: Path, plan: Plan) -> None:
    """A new build's folder, with room for all rows; none where that fails."""
    try:
        (folder / "shards").mkdir(parents=True)
        shapes = array_shapes(plan.rows, len(plan.recipe.names))
        for array in make_arrays(folder, shapes).values():
            array.flush()
        write(folder / "plan.json", plan)
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _has_arrays(build: Build) -> bool:
    try:
        for name in DTYPES:
            data_offset(build.folder, name, build.rows, len(build.recipe.names))
    except (OSError, ValueError):
        return False
    return True


def _offsets(shards: Sequence[Shard]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """First row of each series, and the number of rows."""
    firsts = [np.asarray(shard.offsets[:-1], np.int64) + shard.slot.first for shard in shards]
    rows = sum(shard.slot.rows for shard in shards)
    return np.concatenate([*firsts, [rows]])


def _described(folder: Path, name: str, plan: Plan, shards: Sequence[Shard]) -> dict[str, int]:
    """Bytes and checksum of an array's file, of which only what precedes the rows is read."""
    file, width = folder / f"{name}.npy", row_bytes(name, len(plan.recipe.names))
    begin = data_offset(folder, name, plan.rows, len(plan.recipe.names))
    with file.open("rb") as opened:
        header = np.frombuffer(opened.read(begin), np.uint8)
    crc = checksums({name: header})[name]
    for shard in shards:
        crc = joined_crc32(crc, shard.crc32[name], shard.slot.rows * width)
    sync(file)
    return {"bytes": file.stat().st_size, "crc32": crc}
