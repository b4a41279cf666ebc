"""Checkpoint files: written whole or not at all, read without running code from them."""

from __future__ import annotations

import contextlib
import os
import pickletools
import re
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import torch

from tfa_perf.train.written import naming

__all__ = ["CheckpointError", "read_checkpoint", "write_checkpoint"]


class CheckpointError(ValueError):
    """A file that is no checkpoint, or one of another run."""


def write_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write ``content`` (tensors and plain values) to ``path``; an existing file is replaced.

    It is written to a file beside it, synced and renamed: whatever happens in between, a crash
    of the machine included, ``path`` holds the old content or the new one, and what is left of a
    process that was killed is removed by the next write. Raises OSError, naming ``path``.
    """
    with naming(path):
        for left in path.parent.glob(f".{path.name}.*.tmp"):
            if not _running(left):
                left.unlink(missing_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f".{path.name}.{os.getpid()}.", suffix=".tmp", dir=path.parent
        )
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                torch.save(content, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
            _sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What ``write_checkpoint`` wrote, with tensors on the CPU.

    Raises CheckpointError, naming the file, where it is missing, torn or holds anything but
    tensors and plain values.
    """
    try:
        _check_archive(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint") from None
    except Exception as e:  # bytes that are no checkpoint end torch's reader in any way
        reason = f"{type(e).__name__}: {str(e).strip()}".partition("\n")[0]
        raise CheckpointError(f"{path}: cannot be read as a checkpoint ({reason})") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, not a checkpoint")
    return content


# What tensors and plain values are written with.
_PLAIN = re.compile(
    r"torch \w+Storage|torch [a-z]+[0-9]*|torch Size|torch._utils _rebuild_(tensor_v2|parameter)"
    r"|collections OrderedDict"
)
# Before it is read it is searched, at some MB a second; that of a large model has 0.1 MB.
_MOST_PICKLE_BYTES = 16 << 20


def _check_archive(path: Path) -> None:
    """Raise ValueError unless reading ``path`` takes about as much memory as it has bytes.

    torch's reader unpacks whatever an archive says, and knows calls that make objects of any size.
    """
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        packed = [entry.filename for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
        if packed or sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise ValueError("its entries are larger than the file; torch.save packs nothing")
        for entry in entries:
            if not entry.filename.endswith(".pkl"):
                continue
            if entry.file_size > _MOST_PICKLE_BYTES:
                raise ValueError(
                    f"{entry.filename} has {entry.file_size:,} bytes; "
                    f"allowed: {_MOST_PICKLE_BYTES:,}"
                )
            for code, argument, _ in pickletools.genops(archive.read(entry)):
                if code.name in _CALLS and not _PLAIN.fullmatch(str(argument)):
                    raise ValueError(f"it names {argument or code.name}, which is no plain value")


_CALLS = ("GLOBAL", "STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4")


def _running(temporary: Path) -> bool:
    """Whether the process whose number the file's name holds is alive; True where unknown."""
    try:
        os.kill(int(temporary.name.split(".")[-3]), 0)
    except ProcessLookupError:
        return False
    except (ValueError, IndexError, OSError):
        return True
    return True


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    # Without it the rename may not survive a crash; not every file system can.
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
