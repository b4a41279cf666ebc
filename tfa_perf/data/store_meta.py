"""What `meta.json` of a feature store must hold. Nothing in it can name a file elsewhere."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tfa_perf.data.labels import LabelRule
from tfa_perf.data.scaler import Scaler

FORMAT = "tfa-perf feature store"
VERSION = 2
# Names of a hundred thousand series fit; what is larger is not read at all.
_MOST_BYTES = 64 << 20
DTYPES = {"features": "<f4", "labels": "<f4", "trainable": "|b1", "ts": "<i8"}
REBUILD = "rebuild the store"
DATA_FOLDER = re.compile(r"data-[0-9a-f]{16}")


class StoreError(ValueError):
    """A feature store that cannot be written or read; the message says why and what to do."""


class NewerStoreError(StoreError):
    """A store that a later version wrote, which this one neither reads nor replaces."""


def array_shapes(rows: int, features: int) -> dict[str, tuple[int, ...]]:
    return {name: (rows, features) if name == "features" else (rows,) for name in DTYPES}


def new_meta(
    *,
    data: str,
    rows: int,
    names: Sequence[str],
    spec_hash: str,
    convention: str,
    symbols: Sequence[str],
    offsets: npt.NDArray[np.int64],
    first_valid: int,
    label_rule: LabelRule | None,
    scaler: Scaler | None,
    scaled: bool,
) -> dict[str, Any]:
    """A description of this version, whose files' bytes and checksums are still to be filled in."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "data": data,
        "rows": rows,
        "names": list(names),
        "spec_hash": spec_hash,
        "convention": convention,
        "symbols": list(symbols),
        "offsets": offsets.tolist(),
        "first_valid": first_valid,
        "label_rule": None if label_rule is None else label_rule._asdict(),
        "scaler": None if scaler is None else scaler.to_dict(),
        "scaled": scaled,
        "files": {f"{name}.npy": {"bytes": 0, "crc32": 0} for name in DTYPES},
    }


def check_meta(meta: Any) -> None:
    """Raise ValueError, naming the entry, unless `meta` describes a store of this version."""
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise ValueError(f"'format' is not {FORMAT!r}")
    if meta.get("version") != VERSION:
        raise ValueError(f"'version' is {meta.get('version')!r}, this program reads {VERSION}")
    data, rows = meta.get("data"), meta.get("rows")
    if not isinstance(data, str) or not DATA_FOLDER.fullmatch(data):
        raise ValueError(f"'data' is {data!r}, not data- and 16 hexadecimal digits")
    if type(rows) is not int or rows < 1:
        raise ValueError(f"'rows' is {rows!r}, not a positive whole number")
    for key in ("spec_hash", "convention"):
        if not isinstance(meta.get(key), str):
            raise ValueError(f"{key!r} is {meta.get(key)!r}, not text")
    for key in ("names", "symbols"):
        names = meta.get(key)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"{key!r} is not a list of text")
        if not names or len(set(names)) != len(names):
            raise ValueError(f"{key!r} is empty or repeats a name")
    offsets = meta.get("offsets")
    if not isinstance(offsets, list) or not all(type(offset) is int for offset in offsets):
        raise ValueError("'offsets' is not a list of whole numbers")
    if len(offsets) != len(meta["symbols"]) + 1 or offsets != sorted(offsets):
        raise ValueError("'offsets' does not rise, or is not one longer than 'symbols'")
    if offsets[0] != 0 or offsets[-1] != rows:
        raise ValueError(f"'offsets' does not go from 0 to {rows} rows")
    first_valid = meta.get("first_valid", 0)
    if type(first_valid) is not int or first_valid < 0:
        raise ValueError(f"'first_valid' is {first_valid!r}, not a whole number from 0")
    read_label_rule(meta)
    if type(meta.get("scaled")) is not bool:
        raise ValueError(f"'scaled' is {meta.get('scaled')!r}, not true or false")
    scaler = meta.get("scaler")
    if scaler is None and meta["scaled"]:
        raise ValueError("'scaled' is true, but there is no 'scaler'")
    if scaler is not None and Scaler.from_dict(scaler).mean.size != len(meta["names"]):
        raise ValueError("'scaler' does not have one mean per name")
    files = meta.get("files")
    if not isinstance(files, dict) or set(files) != {f"{name}.npy" for name in DTYPES}:
        raise ValueError(f"'files' does not describe {', '.join(f'{name}.npy' for name in DTYPES)}")
    for file, entry in files.items():
        numbers = [entry.get(key) for key in ("bytes", "crc32")] if isinstance(entry, dict) else []
        if [type(number) for number in numbers] != [int, int]:
            raise ValueError(f"'files' does not give bytes and crc32 of {file}")


def read_label_rule(meta: dict[str, Any]) -> LabelRule | None:
    """What the labels were made with, where the writer said; ValueError for anything else."""
    rule = meta.get("label_rule")
    if rule is None:
        return None
    if (
        not isinstance(rule, dict)
        or set(rule) != set(LabelRule._fields)
        or type(rule["horizon"]) is not int
        or rule["horizon"] < 1
        or not all(type(rule[k]) in (int, float, type(None)) for k in ("min_volume", "min_move"))
    ):
        raise ValueError(f"'label_rule' is {rule!r}, not a horizon from 1, min_volume and min_move")
    return LabelRule(**rule)


def _check_not_newer(file: Path, meta: Any) -> None:
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        return
    version = meta.get("version")
    if type(version) is int and version > VERSION:
        raise NewerStoreError(
            f"{file}: 'version' is {version}, this program reads {VERSION}; upgrade tfa-perf, or "
            "build in another folder"
        )


def read_meta(path: Path) -> dict[str, Any]:
    file = path / "meta.json"
    try:
        # Bounded: a device says nothing of its size beforehand.
        with file.open("rb") as opened:
            content = opened.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise ValueError(f"has more than the {_MOST_BYTES:,} bytes that are allowed")
        meta = json.loads(content.decode("utf-8"))
        _check_not_newer(file, meta)
        check_meta(meta)
        if meta.get("crc32") != meta_crc32(meta):
            raise ValueError("it has been edited: its checksum is another")
    except StoreError:
        raise
    except FileNotFoundError:
        raise StoreError(
            f"{path}: no feature store here; build one with tfa-perf features, or create_store"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{file}: {error}; {REBUILD}") from error
    return dict(meta)


def meta_crc32(meta: dict[str, Any]) -> int:
    """Of all entries but the checksum itself."""
    rest = {key: value for key, value in meta.items() if key != "crc32"}
    return zlib.crc32(json.dumps(rest, sort_keys=True).encode())


def crc32(file: Path) -> int:
    checksum = 0
    with file.open("rb") as opened:
        while block := opened.read(1 << 20):
            checksum = zlib.crc32(block, checksum)
    return checksum
