"""py-spy, attached to a process that is already running."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

# Samples per second by default. One costs about 0.65 ms of a core (400 reads of the memory of a
# process with 5 threads) and holds up a step that has all cores at work for longer. A number that
# is not round falls in step with nothing that runs every second or tenth of one.
RATE = 19

_ATTACH_LIMIT_S = 15.0
_NOTICE_LIMIT_S = 1.0


def find_pyspy() -> str | None:
    """The py-spy program beside this interpreter, or else on PATH."""
    beside = os.path.dirname(sys.executable)
    return shutil.which("py-spy", path=os.pathsep.join((beside, os.environ.get("PATH", ""))))


def _runs_python(pid: int) -> bool:
    try:
        return os.path.basename(os.readlink(f"/proc/{pid}/exe")).startswith("python")
    except PermissionError:
        return True
    except OSError:
        return False


class PySpy:
    """py-spy attached to a running process, and with `children` to those that it starts too."""

    def __init__(
        self, program: str, pid: int, rate: int, out: Path, log: Path, *, children: bool
    ) -> None:
        self._log = log
        self._watched = pid
        options = ["--nonblocking", "--idle", "--threads", "--full-filenames"]
        options += ["--subprocesses"] if children else []
        options += ["--rate", str(rate), "--format", "speedscope"]
        with log.open("wb") as stream:
            # A session of its own: Ctrl-C at the terminal is for the program, whose last moments
            # are worth sampling too.
            self._process = subprocess.Popen(
                [program, "record", *options, "--pid", str(pid), "--output", str(out)],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its own process id."""
        return self._process.pid

    def ended(self) -> bool:
        """True once it samples no more."""
        return self._process.poll() is not None

    def wait_attached(self, child: subprocess.Popen[Any] | None) -> str | None:
        """None once it samples, else why not. `child` is the program, where we started it."""
        deadline = time.monotonic() + _ATTACH_LIMIT_S
        while time.monotonic() < deadline:
            ended = self._process.poll() is not None
            if self.attached():
                return None
            if ended:
                return f"py-spy could not attach: {self._why()}"
            if child is not None and child.poll() is not None:
                return "the program ended before py-spy had attached"
            time.sleep(0.01)
        return f"py-spy did not attach within {_ATTACH_LIMIT_S:.0f} s"

    def attached(self) -> bool:
        """True once it samples."""
        return "Sampling process" in self._log.read_text(errors="replace")

    def _why(self) -> str:
        log = self._log.read_text(errors="replace")
        # The first line of py-spy's error says what went wrong, the rest how to get help.
        lines = [line.strip() for line in log.splitlines() if line.strip()]
        if "No python processes found" in log and _runs_python(self._watched):
            # Looking for child processes too, it passes over what it may not read.
            return "Permission denied to read the process (ptrace)"
        return lines[0] if lines else "no message"

    def counts(self) -> tuple[int, int]:
        """How many samples it took, and how many it could not read; 0 when it does not say."""
        match = re.search(r"Samples: (\d+) Errors: (\d+)", self._log.read_text(errors="replace"))
        return (0, 0) if match is None else (int(match[1]), int(match[2]))

    def interrupt(self) -> None:
        """Have it sample no more, write and end."""
        if not self.ended():
            self._process.send_signal(signal.SIGINT)
            # The program may have us halted.
            self._process.send_signal(signal.SIGCONT)

    def finish(self, limit_s: float) -> None:
        """Let it write and end; it does so by itself when the last process it watches has ended."""
        if not self.ended():
            # A program that died while it had us halted cannot let us go on.
            self._process.send_signal(signal.SIGCONT)
        try:
            self._process.wait(timeout=min(limit_s, _NOTICE_LIMIT_S))
        except subprocess.TimeoutExpired:
            # Processes that the program left behind are not waited for.
            self._process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=limit_s)
        finally:
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()

    def stop(self, limit_s: float) -> None:
        """End the sampling now and let it write."""
        self.interrupt()
        self.finish(limit_s)


def lost(*spies: PySpy) -> str:
    """How many samples could not be read, in words; empty where none."""
    taken, failed = map(sum, zip(*(spy.counts() for spy in spies), strict=True))
    return f", {failed} of {taken + failed} samples lost" if failed else ""
