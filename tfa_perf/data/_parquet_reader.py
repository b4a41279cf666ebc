"""Run as a script by `tfa_perf.data.parquet`: a Parquet file's bar columns, to standard output.

Imports polars alone, which is what makes it start fast.
"""

from __future__ import annotations

import json
import os
import sys
import threading


def main(path: str, wanted: list[str], memory: int) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import polars as pl

    _limit(memory)
    try:
        scan = pl.scan_parquet(path, glob=False)
        names = scan.collect_schema().names()
        # As `bars_file` compares them.
        frame = scan.select([name for name in names if name.strip().lower() in wanted]).collect()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        _answer({"error": str(error)})
        return
    _answer({"names": names})
    if frame.width:
        frame.write_ipc_stream(sys.stdout.buffer)
    sys.stdout.buffer.flush()


def _answer(header: object) -> None:
    sys.stdout.buffer.write(json.dumps(header).encode() + b"\n")
    sys.stdout.buffer.flush()


def _limit(memory: int) -> None:
    try:
        import resource
    except ImportError:
        return
    # Not the address space: threads reserve much of that and use little.
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))


def _end_with_parent() -> None:
    os.read(0, 1)
    os._exit(1)


if __name__ == "__main__":
    sys.path.append(sys.argv[4])
    main(sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3]))
