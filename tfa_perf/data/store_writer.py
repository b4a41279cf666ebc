"""Building a feature store beside the one that is there, and publishing it in one step."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from tfa_perf.data.labels import LabelRule
from tfa_perf.data.scaler import Scaler
from tfa_perf.data.store_files import make_arrays, new_build, publish, published_name, sync, tidy
from tfa_perf.data.store_lock import only_writer
from tfa_perf.data.store_meta import (
    DTYPES,
    REBUILD,
    NewerStoreError,
    StoreError,
    array_shapes,
    check_meta,
    crc32,
    new_meta,
    read_meta,
)


class StoreWriter:
    """Writable arrays of a store that is being built. Made by `create_store`."""

    def __init__(self, path: Path, rows: int, features: int) -> None:
        self._path = path
        self._shapes = array_shapes(rows, features)
        self._maps: dict[str, np.memmap[Any, Any]] = {}
        self._folder = new_build(path)
        self._leaving = ExitStack()
        self._committed = False

    def __enter__(self) -> StoreWriter:
        with ExitStack() as failing:
            failing.enter_context(only_writer(self._path))
            failing.callback(self._discard)
            self._refuse_newer()
            try:
                self._folder.mkdir()
                self._maps = make_arrays(self._folder, self._shapes)
            except OSError as error:
                raise StoreError(
                    f"{self._path}: cannot hold {self._shapes['features']} features: {error}; "
                    "choose a folder with room that can be written"
                ) from error
            self._leaving = failing.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leaving.close()
        if kind is None and not self._committed:
            raise StoreError(f"{self._path}: nothing was stored; call commit() inside the with")

    @property
    def features(self) -> npt.NDArray[np.float32]:
        return self._array("features")

    @property
    def labels(self) -> npt.NDArray[np.float32]:
        return self._array("labels")

    @property
    def trainable(self) -> npt.NDArray[np.bool_]:
        return self._array("trainable")

    @property
    def ts(self) -> npt.NDArray[np.int64]:
        return self._array("ts")

    def commit(
        self,
        *,
        names: Sequence[str],
        spec_hash: str,
        convention: str,
        symbols: Sequence[str] = ("",),
        offsets: npt.NDArray[np.int64] | None = None,
        first_valid: int = 0,
        label_rule: LabelRule | None = None,
        scaler: Scaler | None = None,
        scaled: bool = False,
    ) -> None:
        """Publish the arrays in place of the store that was there, and remove that.

        Raises
        ------
        StoreError : a value that does not fit the arrays, or the disk refuses; what was there
            before stays.
        """
        self._array("ts")
        rows = self._shapes["ts"][0]
        meta = new_meta(
            data=published_name(self._folder),
            rows=rows,
            names=names,
            spec_hash=spec_hash,
            convention=convention,
            symbols=symbols,
            offsets=np.array([0, rows]) if offsets is None else np.asarray(offsets),
            first_valid=first_valid,
            label_rule=label_rule,
            scaler=scaler,
            scaled=scaled,
        )
        width = self._shapes["features"][1]
        if len(names) != width:
            raise StoreError(f"{self._path}: {width} features but {len(names)} names; name each")
        try:
            check_meta(meta)
            for array in self._maps.values():
                array.flush()
            self._maps.clear()
            for name in DTYPES:
                file = self._folder / f"{name}.npy"
                sync(file)
                meta["files"][file.name] = {"bytes": file.stat().st_size, "crc32": crc32(file)}
            publish(self._path, self._folder, meta)
            self._committed = True
            sync(self._path)
        except (OSError, ValueError, TypeError) as error:
            raise StoreError(f"{self._path}: cannot commit: {error}; {REBUILD}") from error
        tidy(self._path, self._path / meta["data"])

    def _array(self, name: str) -> npt.NDArray[Any]:
        if name not in self._maps:
            raise StoreError(f"{self._path}: the arrays exist only inside the with, until commit()")
        return self._maps[name].view(np.ndarray)

    def _refuse_newer(self) -> None:
        try:
            read_meta(self._path)
        except NewerStoreError:
            raise
        except StoreError:
            # What is there can be replaced, whatever it is.
            pass

    def _discard(self) -> None:
        self._maps.clear()
        if not self._committed:
            shutil.rmtree(self._folder, ignore_errors=True)
            shutil.rmtree(self._path / published_name(self._folder), ignore_errors=True)


def create_store(path: str | Path, *, rows: int, features: int) -> StoreWriter:
    """A context in which the arrays of a new store at the folder `path` are written.

    ::

        with create_store(path, rows=len(bars), features=len(names)) as writer:
            build_features(bars, spec, out=writer.features)
            writer.labels[...] = labels.y
            writer.commit(names=names, spec_hash=..., convention=...)

    The arrays start as zeros and must not be written after `commit`. Their room on the disk is
    reserved first, since a full disk would kill a process that writes through a memory map. An
    exception before `commit` removes what was written; a store that was there stays. Another
    process that builds the same store is waited for.

    Raises
    ------
    StoreError : no rows or features, a folder that cannot be written, no room, a store there that
        a newer version wrote, or no `commit`.
    """
    path = Path(path)
    if rows < 1 or features < 1:
        raise StoreError(f"a store needs rows and features, got {rows} rows, {features} features")
    if path.exists() and not path.is_dir():
        raise StoreError(f"{path}: is a file; give a folder")
    return StoreWriter(path, int(rows), int(features))
