"""A feature table on disk: memory-mapped arrays published in one step.

`path/meta.json` names one folder `data-<hex>` beside it and is the last file written, by
`os.replace`. Whatever happens before that leaves the store that was there. Publishing removes every
other data folder, so a lock keeps writers one at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tfa_perf.data.labels import LabelRule
from tfa_perf.data.scaler import Scaler
from tfa_perf.data.store_lock import only_writer
from tfa_perf.data.store_meta import (
    DTYPES,
    REBUILD,
    NewerStoreError,
    StoreError,
    array_shapes,
    crc32,
    read_label_rule,
    read_meta,
)
from tfa_perf.data.store_writer import StoreWriter, create_store

__all__ = [
    "FeatureStore",
    "NewerStoreError",
    "StoreError",
    "StoreWriter",
    "create_store",
    "open_or_build",
    "open_store",
]


@dataclass(frozen=True, eq=False, repr=False)
class FeatureStore:
    """N rows of F features, read-only and memory-mapped.

    Attributes
    ----------
    features : float32 [N, F].
    labels : float32 [N].
    trainable : bool [N], rows whose label may be used.
    ts : int64 [N], epoch nanoseconds UTC.
    names : F feature names.
    spec_hash, convention : what the features were built from.
    symbols, offsets : S names and int64 [S+1] row boundaries of the series.
    first_valid : rows of a series before this one lack some feature; no window covers them.
    label_rule : what the labels were made with; None where the writer did not say.
    scaler : fitted on the training rows of these features, or None.
    scaled : whether `features` hold values that `scaler` has been applied to.
    """

    path: Path
    features: npt.NDArray[np.float32]
    labels: npt.NDArray[np.float32]
    trainable: npt.NDArray[np.bool_]
    ts: npt.NDArray[np.int64]
    names: tuple[str, ...]
    spec_hash: str
    convention: str
    symbols: tuple[str, ...]
    offsets: npt.NDArray[np.int64]
    scaler: Scaler | None
    scaled: bool
    first_valid: int = 0
    label_rule: LabelRule | None = None

    def __len__(self) -> int:
        return int(self.ts.size)

    def __repr__(self) -> str:
        rows, columns = self.features.shape
        return f"FeatureStore({str(self.path)!r}, {rows:,} rows x {columns} features)"


def open_store(
    path: str | Path, *, spec_hash: str | None = None, verify: bool = False
) -> FeatureStore:
    """The store in the folder `path`, its arrays mapped read-only.

    Parameters
    ----------
    spec_hash : refuse a store whose features were built from another spec.
    verify : read every file and compare its checksum (CRC-32), which finds accidental damage.

    Raises
    ------
    StoreError : no store, another version or spec, or a file that is missing, damaged or of the
        wrong size.
    """
    path = Path(path)
    while True:
        meta = read_meta(path)
        try:
            return _open(path, meta, spec_hash, verify)
        except FileNotFoundError as error:
            # A writer may publish and remove the data folder between the two reads.
            if read_meta(path)["data"] == meta["data"]:
                raise StoreError(f"{error.filename}: missing; {REBUILD}") from error


def open_or_build(
    path: str | Path,
    build: Callable[[StoreWriter], None],
    *,
    rows: int,
    features: int,
    spec_hash: str,
    verify: bool = False,
) -> FeatureStore:
    """The store at `path`; where there is none that fits, ``build(writer)`` makes it first.

    ``build`` fills the arrays of the writer (`create_store`) and commits. Of several processes
    that ask for the same store at once, one builds; the others wait and open what it has built.
    A store that is damaged, that has other rows or features, or that was built from another spec
    is built anew.

    Parameters
    ----------
    rows, features : shape of the feature table.
    spec_hash : what the features are built from.
    verify : see `open_store`.

    Raises
    ------
    NewerStoreError : a later version wrote what is there.
    StoreError : as `create_store`; or `build` committed something else than was asked for.
    """
    path = Path(path)

    def fitting() -> FeatureStore:
        store = open_store(path, spec_hash=spec_hash, verify=verify)
        if store.features.shape != (rows, features):
            found, wanted = store.features.shape, (rows, features)
            raise StoreError(f"{path}: features have shape {found}, not {wanted}; {REBUILD}")
        return store

    try:
        return fitting()
    except NewerStoreError:
        raise
    except StoreError:
        pass
    with only_writer(path):
        # Another process may have built it meanwhile.
        with suppress(StoreError):
            return fitting()
        with create_store(path, rows=rows, features=features) as writer:
            build(writer)
        return fitting()


def _open(path: Path, meta: dict[str, Any], spec_hash: str | None, verify: bool) -> FeatureStore:
    if spec_hash is not None and meta["spec_hash"] != spec_hash:
        raise StoreError(
            f"{path}: features were built from spec {meta['spec_hash']}, not {spec_hash}; "
            f"{REBUILD} or give the spec it was built from"
        )
    folder = path / meta["data"]
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, shape in array_shapes(meta["rows"], len(meta["names"])).items():
        file = folder / f"{name}.npy"
        if file.resolve(strict=True) != path.resolve() / folder.name / file.name:
            raise StoreError(f"{file}: is a link out of the store; {REBUILD}")
        entry = meta["files"][file.name]
        size = file.stat().st_size
        if size != entry["bytes"]:
            raise StoreError(f"{file}: has {size} bytes, not {entry['bytes']}; {REBUILD}")
        if verify and crc32(file) != entry["crc32"]:
            raise StoreError(f"{file}: does not match its checksum; {REBUILD}")
        try:
            array = np.load(file, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError:
            raise
        except (ValueError, OSError, EOFError) as error:
            raise StoreError(f"{file}: is no array file: {error}; {REBUILD}") from error
        found = (array.dtype.str, array.shape, array.flags.c_contiguous)
        if found != (DTYPES[name], shape, True):
            raise StoreError(f"{file}: holds {found}, not {DTYPES[name]} {shape}; {REBUILD}")
        arrays[name] = array.view(np.ndarray)
    return FeatureStore(
        path=path,
        **arrays,
        names=tuple(meta["names"]),
        spec_hash=meta["spec_hash"],
        convention=meta["convention"],
        symbols=tuple(meta["symbols"]),
        offsets=np.array(meta["offsets"], np.int64),
        scaler=None if meta["scaler"] is None else Scaler.from_dict(meta["scaler"]),
        scaled=meta["scaled"],
        first_valid=meta.get("first_valid", 0),
        label_rule=read_label_rule(meta),
    )
