"""Measurements in processes of their own: ``python -m tfa_perf.claims.fresh TASK FOLDER ARG``.

Each prints one line of JSON. A fresh process has no caches, no grown heap and no threads of the
measurements before it.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

__all__ = ["ChildFailed", "in_fresh_process", "in_fresh_processes", "main"]


class ChildFailed(RuntimeError):
    """A measurement's process ended with an error."""


# Idle threads sleep: side by side, those that spin take the cores from the other processes.
_SIDE_BY_SIDE = {"OMP_WAIT_POLICY": "passive"}


def in_fresh_process(task: str, folder: Path, argument: str) -> Any:
    """What the task returns, from a new Python.

    Raises ChildFailed with the last line that the process wrote to its standard error.
    """
    return in_fresh_processes(task, folder, [argument], at_once=1)[0]


def in_fresh_processes(
    task: str, folder: Path, arguments: Sequence[str], *, at_once: int
) -> list[Any]:
    """`in_fresh_process` for each argument, several of them side by side: not for times.

    Whatever ends this early, a failure of one of them or Ctrl-C, ends them all.
    """
    environment = {**os.environ, **_SIDE_BY_SIDE} if at_once > 1 else None
    # A process ends when nobody holds the other end of its input: this one alone does.
    reader, writer = os.pipe()

    def run(argument: str) -> Any:
        command = [sys.executable, "-m", "tfa_perf.claims.fresh", task, str(folder), argument]
        done = subprocess.run(
            command, stdin=reader, capture_output=True, text=True, check=False, env=environment
        )
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise ChildFailed(f"{task} {argument}: {lines[-1]}")
        return json.loads(done.stdout.splitlines()[-1])

    with ThreadPoolExecutor(at_once) as pool:
        try:
            return list(pool.map(run, arguments))
        finally:
            os.close(writer)
            pool.shutdown(cancel_futures=True)
            os.close(reader)


def current_bytes() -> int:
    """Resident bytes of this process now; its peak so far where the system does not say."""
    return _status("VmRSS") or peak_bytes()


def peak_bytes() -> int:
    """Most resident bytes that this process has had."""
    found = _status("VmHWM")
    if found is not None:
        return found
    # On Linux this one begins at the peak of the process that started this one.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _status(entry: str) -> int | None:
    try:
        with open("/proc/self/status", encoding="utf-8") as status:
            for line in status:
                if line.startswith(f"{entry}:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def _end_with_the_one_that_started_us() -> None:
    os.read(0, 1)
    os._exit(1)


def main(task: str, folder: Path, argument: str) -> None:
    threading.Thread(target=_end_with_the_one_that_started_us, daemon=True).start()
    from tfa_perf.claims import epochs, memory

    tasks: dict[str, Callable[[Path, str], Any]] = {
        "epochs": epochs.one_round,
        "training-memory": memory.training_peak,
        "cache-memory": memory.cache_peak,
    }
    print(json.dumps(tasks[task](folder, argument)))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
