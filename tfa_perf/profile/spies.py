"""py-spy on a program, and on the processes that it starts from the first of them on.

Looking for processes as it does costs py-spy more than its samples do. So it watches the
program alone until there is another Python process, when one that watches all takes its place.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from tfa_perf.profile.atomic import write_text
from tfa_perf.profile.process_tree import children_of
from tfa_perf.profile.pyspy import PySpy, lost


class Spies:
    """The py-spies of one program; the ids of those that run are in a file, a line each."""

    def __init__(self, program: str, pid: int, rate: int, alone: Path, all_processes: Path) -> None:
        self._program, self._pid, self._rate = program, pid, rate
        self._outs = [alone, all_processes]
        self._spies: list[PySpy] = []
        self._handed_over = False
        self.pids = alone.with_name("py-spy.pids")
        # Where the children of a process cannot be told, all are watched from the start.
        if has_python_child(pid) is None:
            self._outs = [all_processes]
            self._handed_over = True
        self._start(children=self._handed_over)

    def _start(self, *, children: bool) -> None:
        out = self._outs[len(self._spies)]
        spy = PySpy(
            self._program, self._pid, self._rate, out, out.with_suffix(".log"), children=children
        )
        self._spies.append(spy)
        self._list(*self._spies)

    def _list(self, *spies: PySpy) -> None:
        # Whole or not at all: who reads half an id would signal another process.
        write_text(self.pids, "".join(f"{spy.pid}\n" for spy in spies))

    def wait_attached(self, child: subprocess.Popen[Any]) -> str | None:
        """None once the first one samples, else why not."""
        return self._spies[0].wait_attached(child)

    def look(self) -> bool:
        """Hand over where it is time to; True when there is nothing left to look for."""
        if self._handed_over:
            return True
        if len(self._spies) == 1:
            if has_python_child(self._pid):
                self._start(children=True)
            return False
        first, second = self._spies
        if second.attached():
            self._list(second)
            first.interrupt()
            self._handed_over = True
        elif second.ended():
            self._list(first)
            self._handed_over = True
        return self._handed_over

    def finish(self, limit_s: float) -> None:
        """Let them write and end."""
        for spy in self._spies:
            spy.finish(limit_s)

    def lost(self) -> str:
        """How many samples could not be read, in words; empty where none."""
        return lost(*self._spies)


def has_python_child(pid: int) -> bool | None:
    """Whether a process has started another that runs Python; None where that cannot be told."""
    children = children_of(pid)
    if children is None:
        return None
    return any(_runs_python(child) or bool(has_python_child(child)) for child in children)


def _runs_python(pid: int) -> bool:
    try:
        return os.path.basename(os.readlink(f"/proc/{pid}/exe")).startswith("python")
    except OSError:
        return False
