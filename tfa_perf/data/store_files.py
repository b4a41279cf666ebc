"""The files of a feature store that is being built: their room on the disk, and publishing them."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfa_perf.data.store_meta import DTYPES, meta_crc32

__all__ = ["DATA_OR_BUILD", "make_arrays", "new_build", "publish", "published_name", "sync", "tidy"]

DATA_OR_BUILD = re.compile(r"(data|build)-[0-9a-f]{16}")


def new_build(path: Path) -> Path:
    """A name that no build in the folder ``path`` has had."""
    return path / f"build-{secrets.token_hex(8)}"


def published_name(folder: Path) -> str:
    """What a build's folder is called once it is the store's data."""
    return folder.name.replace("build-", "data-")


def make_arrays(
    folder: Path, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, np.memmap[Any, Any]]:
    """Writable maps of new files of zeros in ``folder``, whose room on the disk is taken.

    A full disk would kill a process that writes through a map. Raises OSError.
    """
    need = sum(math.prod(shape) * np.dtype(DTYPES[name]).itemsize for name, shape in shapes.items())
    free = shutil.disk_usage(folder).free
    if need > free:
        raise OSError(errno.ENOSPC, f"needs {need:,} bytes, {free:,} are free")
    maps = {}
    for name, shape in shapes.items():
        file = folder / f"{name}.npy"
        maps[name] = np.lib.format.open_memmap(
            file, mode="w+", dtype=np.dtype(DTYPES[name]), shape=shape
        )
        _reserve(file)
    return maps


def publish(path: Path, folder: Path, meta: dict[str, Any]) -> None:
    """Make the arrays in ``folder``, synced already, those of the store at ``path``.

    On return ``meta.json`` is ``meta`` with its checksum, and ``folder`` is called what it says.
    Raises OSError.
    """
    sync(folder)
    meta["crc32"] = meta_crc32(meta)
    data = path / meta["data"]
    os.rename(folder, data)
    draft = data / "meta.json"
    draft.write_text(json.dumps(meta, indent=1, allow_nan=False), encoding="utf-8")
    sync(draft)
    sync(path)
    os.replace(draft, path / "meta.json")


def tidy(path: Path, *kept: Path) -> None:
    """Remove all data and builds in the store's folder ``path`` but those that are ``kept``."""
    for entry in path.iterdir():
        if DATA_OR_BUILD.fullmatch(entry.name) and entry not in kept and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)


def sync(path: Path) -> None:
    """Have the file or folder ``path`` on the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reserve(file: Path) -> None:
    if hasattr(os, "posix_fallocate"):
        with file.open("r+b") as opened:
            try:
                os.posix_fallocate(opened.fileno(), 0, file.stat().st_size)
            except OSError as error:
                # Some file systems cannot reserve, which is no reason to refuse them.
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                    raise
