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

from tfa_perf.profile.gpu_window import GpuProfile
from tfa_perf.profile.hooks import hooked
from tfa_perf.profile.inprocess import StackSampler
from tfa_perf.profile.memory_target import GpuMemory, tracker
from tfa_perf.profile.phases import Recorder, recording
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
    """Tell the parent we are up; return which sampler is on: pyspy, inprocess or none."""
    os.write(ready, b"ready\n")
    os.close(ready)
    with os.fdopen(go, "rb") as pipe:
        order = pipe.readline().decode().strip()
    if not order:
        raise SystemExit("the profiler that started this process has gone away")
    return order


def write_json(path: str, data: dict[str, Any]) -> None:
    """Write through a temporary file, so that a reader never sees half of it."""
    partial = f"{path}.partial"
    with open(partial, "w", encoding="utf-8") as file:
        json.dump(data, file)
    os.replace(partial, path)


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


class _Run:
    """Timers and hooks from the program's first line to the end of its exit handlers."""

    def __init__(self, options: dict[str, Any], order: str) -> None:
        self._options = options
        self._pid = os.getpid()
        self._open = ExitStack()
        self._sampler = StackSampler(options["rate"]) if order == "inprocess" else None
        if self._sampler is not None:
            self._sampler.start()
        recorder = Recorder()
        self._open.enter_context(recording(recorder))
        mark_s = 0.0 if order == "none" else max(0.03, 4 / options["rate"])
        self._log = StepLog(recorder, mark_s)
        self._gpu = GpuProfile(recorder, self._log, options.get("gpu_trace", 0), options["trace"])
        self._memory = GpuMemory(recorder) if "memory" in options else None
        self.tracker = tracker(options["memory"]) if "memory" in options else None
        self._open.enter_context(hooked(self._gpu.cut if self.tracker is None else None))
        self.interrupted = False

    def finish(self) -> None:
        # A forked child that leaves through sys.exit runs its parent's exit handlers too.
        if os.getpid() != self._pid:
            return
        found = self._log.finish()
        device, problem = self._gpu.finish(found.warmup_steps)
        if not found.measured_steps:
            device = None
        times = replace(found, device=device, gpu_trace_problem=problem).to_json()
        if self._memory is not None:
            times["gpu_memory"] = self._memory.found()
        self._open.close()
        try:
            if self.tracker is not None:
                self.tracker.__exit__(None, None, None)
            times["environment"] = _environment()
            write_json(self._options["phases"], times)
            if self._sampler is not None:
                write_json(self._options["stacks"], self._sampler.stop())
        except OSError as error:
            print(f"tfa_perf.profile: cannot write the profile: {error}", file=sys.stderr)
        if self.interrupted:
            # What Python does after an uncaught KeyboardInterrupt: shells tell it from an exit.
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


def _is_archive(script: str) -> bool:
    import zipfile

    return zipfile.is_zipfile(script)


def main() -> None:
    options = json.loads(sys.argv[1])
    program = sys.argv[2:]
    _allow_ptrace()
    run = _Run(options, _wait_for_go(options["ready"], options["go"]))
    # Registered first, so it runs last: the program's own exit handlers are part of the program.
    atexit.register(run.finish)
    sys.excepthook = _excepthook
    if run.tracker is not None:
        # memray knows the frames from the one it is entered in, so that is this one.
        run.tracker.__enter__()
    try:
        if program[0] == "-m":
            sys.argv = program[1:]
            runpy.run_module(program[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = program
            _run_script(program[0])
    except KeyboardInterrupt as error:
        sys.excepthook(type(error), error, error.__traceback__)
        run.interrupted = True


if __name__ == "__main__":
    main()
