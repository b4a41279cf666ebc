"""The profiled process: waits until a sampler has attached, then runs the program as __main__.

Started as ``python -m tfa_perf.profile._target JSON program...``. The JSON names two inherited pipe
ends and the files to write. Nothing here imports what the program itself does not.
"""

from __future__ import annotations

import atexit
import builtins
import importlib.machinery
import io
import json
import os
import platform
import runpy
import signal
import sys
from contextlib import ExitStack
from dataclasses import replace
from types import ModuleType, TracebackType
from typing import Any

from tfa_perf.profile.atomic import write_text
from tfa_perf.profile.children import ChildPhases
from tfa_perf.profile.descendants import announce
from tfa_perf.profile.gpu_window import GpuProfile
from tfa_perf.profile.hooks import hooked
from tfa_perf.profile.inprocess import StackSampler
from tfa_perf.profile.limit import StepLimit
from tfa_perf.profile.memory_target import MemoryRun
from tfa_perf.profile.overhead import FIRST_STEP, OverheadProbe, stop_pyspy
from tfa_perf.profile.phases import Recorder, recording
from tfa_perf.profile.post_import import on_import
from tfa_perf.profile.steps import StepLog

_PR_SET_PTRACER = 0x59616D61
_PR_SET_PTRACER_ANY = -1  # all bits of an unsigned long


def _allow_ptrace() -> None:
    # Under Yama's ptrace_scope=1 only an ancestor may look into a process; py-spy is a sibling.
    if sys.platform == "linux":
        import ctypes

        prctl = getattr(ctypes.CDLL(None), "prctl", None)
        if prctl is not None:
            prctl(_PR_SET_PTRACER, ctypes.c_ulong(_PR_SET_PTRACER_ANY), 0, 0, 0)


def _wait_for_go(ready: int, go: int) -> str:
    """Tell the parent we are up; return which sampler is on: pyspy FILE, inprocess or none."""
    os.write(ready, b"ready\n")
    os.close(ready)
    with os.fdopen(go, "rb") as pipe:
        order = pipe.readline().decode().strip()
    if not order:
        raise SystemExit("the profiler that started this process has gone away")
    return order


def _environment() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("numba", "numpy"):
        if name in sys.modules:
            found[name] = str(getattr(sys.modules[name], "__version__", "unknown"))
    torch = sys.modules.get("torch")
    if torch is not None:
        found["torch"] = str(torch.__version__)
        found["torch threads"] = str(torch.get_num_threads())
        if torch.cuda.is_initialized():
            found["gpu"] = str(torch.cuda.get_device_name())
    return found


class ProgramRun:
    """Timers and hooks from the program's first line to the end of its exit handlers."""

    def __init__(self, options: dict[str, Any], order: str) -> None:
        self._options = options
        self._pid = os.getpid()
        self._open = ExitStack()
        sampler, _, spies = order.partition(" ")
        self._sampler = StackSampler(options["rate"]) if sampler == "inprocess" else None
        if self._sampler is not None:
            self._sampler.start()
        recorder = Recorder()
        self._open.enter_context(recording(recorder))
        mark_s = 0.0 if sampler == "none" else max(0.03, 4 / options["rate"])
        self._log = StepLog(recorder, mark_s)
        self._gpu = GpuProfile(recorder, self._log, options["gpu_trace"], options["trace"])
        sample = self._sampler.sample if self._sampler is not None else lambda on: None
        if spies:
            sample = stop_pyspy(spies)
        # Steps traced on the GPU follow the warm-up. Ranks share a py-spy and wait for each other,
        # so a plain block of one would slow a profiled block of another.
        self._limit = StepLimit(options.get("max_steps", 0), options.get("max_seconds", 0.0))
        # Plain blocks would take half of what few steps there are.
        probed = options["ranks"] and not self._limit
        first_step = FIRST_STEP + options["gpu_trace"] if probed else sys.maxsize
        self._probe = OverheadProbe(recorder, self._log, self._gpu, sample, first_step)
        self._open.enter_context(hooked(self._cut))
        self._children = ChildPhases(options["children"], self._pid)
        self._open.enter_context(on_import({"multiprocessing.util": self._children.follow}))
        told = {"children": options["children"], "root": self._pid}
        if options["ranks"]:
            shared = {key: options[key] for key in ("ranks", "rate", "gpu_trace")}
            # What halts py-spy is not for the ranks.
            told |= {**shared, "order": sampler}
        announce(told)

    def _cut(self) -> None:
        # The steps of a forked child are not the program's.
        if os.getpid() == self._pid:
            self._probe.cut()
            self._limit.count()

    def finish(self) -> None:
        # A forked child that leaves through sys.exit runs its parent's exit handlers too.
        if os.getpid() != self._pid:
            return
        overhead = self._probe.finish()
        found = replace(self._log.finish(), overhead=overhead)
        device, problem = self._gpu.finish(found.warmup_steps)
        if not found.measured_steps:
            device = None
        times = replace(found, device=device, gpu_trace_problem=problem).to_json()
        self._open.close()
        try:
            times["environment"] = _environment()
            write_text(self._options["phases"], json.dumps(times))
            if self._sampler is not None:
                write_text(self._options["stacks"], json.dumps(self._sampler.stop()))
        except OSError as error:
            print(f"tfa_perf.profile: cannot write the profile: {error}", file=sys.stderr)


def _end_interrupted(interrupted: list[BaseException]) -> None:
    """What Python does after an uncaught KeyboardInterrupt: shells tell it from an exit."""
    if not interrupted:
        return
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)


def _without_launcher(trace: TracebackType | None) -> TracebackType | None:
    while trace is not None:
        path = trace.tb_frame.f_code.co_filename
        if path != __file__ and path != "<frozen runpy>" and os.path.basename(path) != "runpy.py":
            break
        trace = trace.tb_next
    return trace


def _excepthook(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    shown = _without_launcher(trace)
    sys.__excepthook__(kind, error.with_traceback(shown), shown)


def _run_script(script: str) -> None:
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = os.path.dirname(os.path.realpath(script))
    if os.path.isdir(script) or (not script.endswith((".py", ".pyw")) and _is_archive(script)):
        runpy.run_path(script, run_name="__main__")
        return
    path = os.path.abspath(script)
    main = ModuleType("__main__")
    main.__dict__.update(
        __file__=path,
        __builtins__=builtins,
        __loader__=importlib.machinery.SourceFileLoader("__main__", path),
        __spec__=None,
        __cached__=None,
    )
    sys.modules["__main__"] = main
    with io.open_code(path) as file:
        code = compile(file.read(), path, "exec", dont_inherit=True)
    exec(code, main.__dict__)


def _run_module(name: str) -> None:
    try:
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    except ImportError as error:
        if _without_launcher(error.__traceback__) is not None:
            raise
        # No line of the program has run: the one line that `python -m` prints of it.
        raise SystemExit(f"{sys.executable}: {error}") from None


def _is_archive(script: str) -> bool:
    import zipfile

    return zipfile.is_zipfile(script)


def main() -> None:
    options = json.loads(sys.argv[1])
    program = sys.argv[2:]
    _allow_ptrace()
    order = _wait_for_go(options["ready"], options["go"])
    run: ProgramRun | MemoryRun
    run = MemoryRun(options) if "memory" in options else ProgramRun(options, order)
    interrupted: list[BaseException] = []
    # Registered first, so they run last: the program's own exit handlers are part of the program.
    atexit.register(_end_interrupted, interrupted)
    atexit.register(run.finish)
    sys.excepthook = _excepthook
    if isinstance(run, MemoryRun):
        # memray knows the frames from the one it is entered in: this one, below the program.
        run.tracker.__enter__()
    try:
        if program[0] == "-m":
            sys.argv = program[1:]
            _run_module(program[1])
        else:
            sys.argv = program
            _run_script(program[0])
    except KeyboardInterrupt as error:
        sys.excepthook(type(error), error, error.__traceback__)
        interrupted.append(error)


if __name__ == "__main__":
    main()
