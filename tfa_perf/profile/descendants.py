"""The profiler in interpreters that the program starts: spawned workers and torchrun's ranks."""

from __future__ import annotations

import atexit
import json
import os
from contextlib import ExitStack
from typing import Any

from tfa_perf.profile.children import ChildPhases
from tfa_perf.profile.hooks import hooked

VARIABLE = "TFA_PERF_PROFILE"
_INJECT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "_inject")
_kept: list[Any] = []


def announce(options: dict[str, Any]) -> None:
    """Have interpreters that this process starts from now on call `start`."""
    os.environ[VARIABLE] = json.dumps(options)
    paths = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p and p != _INJECT]
    os.environ["PYTHONPATH"] = os.pathsep.join([_INJECT, *paths])


def start(text: str, spawned: bool) -> None:
    """Called in a new interpreter before the program's first line."""
    options = json.loads(text)
    if spawned:
        _start_worker(options)
    elif "ranks" in options:
        _start_rank(options, int(os.environ["RANK"]))


def _start_worker(options: dict[str, Any]) -> None:
    children = ChildPhases(options["children"], options["root"])
    stack = ExitStack()
    stack.callback(children.write)
    stack.enter_context(hooked())
    children.start()
    _kept.append(children)
    atexit.register(stack.close)


def _start_rank(options: dict[str, Any], rank: int) -> None:
    from tfa_perf.profile._target import ProgramRun

    base = os.path.join(options["ranks"], str(rank))
    with open(f"{base}.pid", "w", encoding="utf-8") as file:
        file.write(str(os.getpid()))
    files = {"phases": f"{base}.json", "stacks": f"{base}.stacks", "trace": f"{base}.trace"}
    run = ProgramRun({**options, **files, "ranks": None}, options["order"])
    atexit.register(run.finish)
