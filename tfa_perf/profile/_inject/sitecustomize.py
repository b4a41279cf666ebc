"""Starts the profiler in interpreters that a profiled program starts.

Python imports the first module of this name on its path; the one that would have been imported
without us runs after it.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys


def _chain() -> None:
    here = os.path.dirname(os.path.abspath(__file__))
    paths = [p for p in sys.path if os.path.abspath(p or ".") != here]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", paths)
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


def _start() -> None:
    options = os.environ.get("TFA_PERF_PROFILE")
    spawned = "--multiprocessing-fork" in sys.orig_argv
    if not options or not (spawned or "RANK" in os.environ):
        return
    from tfa_perf.profile.descendants import start

    start(options, spawned)


try:
    _start()
except Exception as error:
    print(f"tfa_perf.profile: not profiling process {os.getpid()}: {error}", file=sys.stderr)
finally:
    _chain()
