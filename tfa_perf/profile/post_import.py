"""Run a function on a module as soon as the program imports it, without importing it for it."""

from __future__ import annotations

import importlib.abc
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType

Action = Callable[[ModuleType], None]


class _Watcher(importlib.abc.MetaPathFinder):
    def __init__(self, actions: dict[str, Action]) -> None:
        self._actions = actions

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in self._actions:
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            if finder is self or find is None:
                continue
            spec: ModuleSpec | None = find(name, path, target)
            if spec is not None:
                self._watch(name, spec)
                return spec
        return None

    def _watch(self, name: str, spec: ModuleSpec) -> None:
        loader = spec.loader
        execute = getattr(loader, "exec_module", None)
        if execute is None:
            return

        def exec_module(module: ModuleType) -> None:
            # Shadowing the method on the loader object keeps its class, and with it resource
            # readers and source lookup, as they were.
            del loader.__dict__["exec_module"]
            execute(module)
            action = self._actions.pop(name, None)
            if action is not None:
                action(module)

        try:
            loader.__dict__["exec_module"] = exec_module
        except (AttributeError, TypeError):
            return


@contextmanager
def on_import(actions: dict[str, Action]) -> Iterator[None]:
    """Call ``actions[name](module)`` now for loaded modules, else right after their import.

    Inside the block only: on leaving it, modules not yet imported are forgotten.
    """
    pending: dict[str, Action] = {}
    watcher = _Watcher(pending)
    sys.meta_path.insert(0, watcher)
    try:
        for name, action in actions.items():
            module = sys.modules.get(name)
            if module is None:
                pending[name] = action
            else:
                action(module)
        yield
    finally:
        pending.clear()
        if watcher in sys.meta_path:
            sys.meta_path.remove(watcher)
