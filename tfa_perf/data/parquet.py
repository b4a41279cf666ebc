"""Parquet files read in a process of their own.

A damaged file may end the process that reads it, from where no exception comes back, and a small
one may hold more values than there is memory for.
"""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path

import polars as pl

from tfa_perf.available_memory import available_bytes

__all__ = ["ParquetError", "read_parquet"]

_SCRIPT = Path(__file__).with_name("_parquet_reader.py")
# Of the free memory: the columns are there twice while they are handed over.
_SHARE = 0.4
_UNKNOWN = 16 << 30


class ParquetError(ValueError):
    """A file that cannot be read as Parquet; the message has one line."""


def read_parquet(path: Path, wanted: Collection[str]) -> tuple[list[str], pl.DataFrame]:
    """Names of all columns, and those columns whose name in lower case is among ``wanted``.

    Raises ParquetError for a file that is none, or that needs more memory than is free.
    """
    memory = int(_SHARE * (available_bytes() or _UNKNOWN))
    # Isolated: what the environment adds to new interpreters has no part in this one, but for the
    # folder of polars, which may be on the path by that alone.
    command = [sys.executable, "-I", str(_SCRIPT), str(path.resolve())]
    command += [json.dumps(sorted(wanted)), str(memory), str(Path(pl.__file__).parents[1])]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
        )
        # It ends when its input is closed, however this process ends.
        try:
            assert process.stdout is not None
            content = process.stdout.read()
            code = process.wait()
        finally:
            process.kill()
            process.communicate()
        errors.seek(0)
        lines = errors.read(1 << 16).decode(errors="replace").strip().split("\n")
    # A traceback says at its end what happened.
    said = lines[-1 if lines[0].startswith("Traceback") else 0]
    header, _, columns = content.partition(b"\n")
    if code:
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        raise ParquetError(f"it ended the process that read it ({how}: {said})")
    about = json.loads(header)
    if "error" in about:
        raise ParquetError(about["error"].strip().split("\n")[0])
    if not columns:
        return about["names"], pl.DataFrame()
    return about["names"], pl.read_ipc_stream(io.BytesIO(columns))
