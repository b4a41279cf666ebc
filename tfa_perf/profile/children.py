"""Phases in the processes that multiprocessing starts, DataLoader workers among them.

A forked child goes on with its parent's hooks and gets a recorder of its own. A spawned one is a
new interpreter: `sitecustomize` in ``_inject``, which the environment puts on its path, starts one.
Each writes its phases when it ends; one that a signal ends writes nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType

from tfa_perf.profile.laps import DATALOADER_WORKERS, OTHER
from tfa_perf.profile.phases import Recorder, recording


class ChildPhases:
    """Follows multiprocessing's children of the program whose process id is `root`."""

    def __init__(self, folder: str, root: int) -> None:
        self._folder = folder
        self._root = root
        self._open = ExitStack()
        self._recorder: Recorder | None = None

    def follow(self, util: ModuleType) -> None:
        """Record every forked child from now on; `util` is ``multiprocessing.util``."""
        # Runs first thing in a forked child; the registry holds `self` weakly.
        util.register_after_fork(self, ChildPhases._begin)

    def _begin(self) -> None:
        from multiprocessing import util

        self.start()
        # A forked child ends without Python's exit handlers.
        util.Finalize(None, self.write, exitpriority=1000)

    def start(self) -> None:
        """Record this process."""
        self._open = ExitStack()
        self._recorder = Recorder()
        self._open.enter_context(recording(self._recorder))

    def write(self) -> None:
        """End the recording and write what it holds."""
        if self._recorder is None:
            return
        phases = dict(self._recorder.lap().phases)
        del phases[OTHER]
        self._open.close()
        threads = {**self._recorder.other_threads(), _name(): phases}
        self._recorder = None
        path = Path(self._folder) / f"{self._root}-{os.getpid()}.json"
        with contextlib.suppress(OSError):
            path.write_text(json.dumps(threads), encoding="utf-8")


def _name() -> str:
    from multiprocessing import current_process

    data = sys.modules.get("torch.utils.data")
    if data is not None and data.get_worker_info() is not None:
        return DATALOADER_WORKERS
    return current_process().name


def read_children(folder: Path, root: int) -> dict[str, dict[str, float]]:
    """Seconds per phase and name of process, summed over the children of `root`."""
    found: dict[str, dict[str, float]] = {}
    for path in folder.glob(f"{root}-*.json"):
        with contextlib.suppress(OSError, ValueError):
            for name, phases in json.loads(path.read_text(encoding="utf-8")).items():
                sums = found.setdefault(name, {})
                for phase, seconds in phases.items():
                    sums[phase] = sums.get(phase, 0.0) + seconds
    return {name: phases for name, phases in found.items() if phases}
