"""Which phase a sampled frame belongs to, and where its function starts, read from the source."""

from __future__ import annotations

import ast
import functools
import re
import threading
import tokenize
from dataclasses import dataclass, field

# CPython counts the depth of two trees that threads build at once as one, and raises.
_PARSING = threading.Lock()
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass
class _Scope:
    """One function (or the module) with the phase blocks written directly in it."""

    name: str
    first: int
    last: int
    phase: str | None
    blocks: list[tuple[int, int, str]] = field(default_factory=list)


@functools.lru_cache(maxsize=4096)
def _text(path: str) -> str:
    try:
        with tokenize.open(path) as file:
            return file.read()
    except (OSError, SyntaxError, ValueError):
        return ""


@functools.lru_cache(maxsize=4096)
def _lines(path: str) -> list[str]:
    return _text(path).splitlines()


def bare_name(function: str) -> str:
    """The last part of a qualified function name: ``Linear.forward`` gives ``forward``."""
    return function if function.startswith("<") else function.rsplit(".", 1)[-1]


class _Reader(ast.NodeVisitor):
    def __init__(self) -> None:
        self.scopes = [_Scope("<module>", 1, 1 << 30, None)]
        self._open = [self.scopes[0]]
        self._names = {"phase"}

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            if alias.name == "phase" and alias.asname:
                self._names.add(alias.asname)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        literals = [self._literal(decorator) for decorator in node.decorator_list]
        named = [literal for literal in literals if literal]
        # Decorators apply bottom up, so the lowest phase is the innermost one.
        scope = _Scope(node.name, node.lineno, node.end_lineno or node.lineno, None)
        scope.phase = named[-1] if named else None
        self.scopes.append(scope)
        self._open.append(scope)
        self.generic_visit(node)
        self._open.pop()

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self.visit_FunctionDef(node)

    def visit_With(self, node: ast.With | ast.AsyncWith) -> None:
        last = node.end_lineno or node.lineno
        for item in node.items:
            name = self._literal(item.context_expr)
            if name:
                self._open[-1].blocks.append((node.body[0].lineno, last, name))
        self.generic_visit(node)

    def visit_AsyncWith(self, node: ast.AsyncWith) -> None:
        self.visit_With(node)

    def _literal(self, node: ast.expr) -> str | None:
        if not isinstance(node, ast.Call) or len(node.args) != 1:
            return None
        function, argument = node.func, node.args[0]
        named = (isinstance(function, ast.Name) and function.id in self._names) or (
            isinstance(function, ast.Attribute) and function.attr == "phase"
        )
        if named and isinstance(argument, ast.Constant) and isinstance(argument.value, str):
            return argument.value
        return None


@functools.lru_cache(maxsize=4096)
def _scopes(path: str) -> tuple[_Scope, ...]:
    text = _text(path)
    if "phase" not in text:
        return ()
    try:
        with _PARSING:
            tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return ()
    reader = _Reader()
    reader.visit(tree)
    return tuple(reader.scopes)


# Compilers, whose spans are opened by their own events and so by no `with` in any source.
_COMPILERS = {
    "_compile": {"torch/_dynamo/convert_frame.py": "torch_compile"},
    "_wrapped_bw_compiler": {"torch/_dynamo/backends/common.py": "torch_compile"},
    "_acquire_compile_lock": {"numba/core/compiler_lock.py": "numba_compile"},
    "compile": {
        "numba/core/dispatcher.py": "numba_compile",
        "triton/compiler/compiler.py": "triton_compile",
    },
}


def _compiler_phase(name: str, path: str) -> str | None:
    found = _COMPILERS.get(name)
    if found is None:
        return None
    return next((phase for file, phase in found.items() if path.endswith(f"/{file}")), None)


def phase_of(function: str, path: str, line: int) -> str | None:
    """The phase that a frame at `line` of `function` is in by its own source, or None.

    It is the innermost ``with phase("...")`` block around the line in that function, else the
    function's ``@phase("...")``. A function defined inside such a block does not belong to it:
    where it runs is its caller's matter. The compilers of torch, Triton and Numba have a phase too.
    """
    name = bare_name(function)
    compiler = _compiler_phase(name, path)
    if compiler is not None:
        return compiler
    inside = [s for s in _scopes(path) if s.name == name and s.first <= line <= s.last]
    if not inside:
        return None
    scope = max(inside, key=lambda s: s.first)
    blocks = [block for block in scope.blocks if block[0] <= line <= block[1]]
    # Of blocks opened on one `with`, the later is the inner one.
    return max(enumerate(blocks), key=lambda b: (b[1][0], b[0]))[1][2] if blocks else scope.phase


@functools.lru_cache(maxsize=65536)
def definition_line(function: str, path: str, line: int) -> int | None:
    """Line of the ``def`` of the function that holds `line`, or None where it is not found."""
    name = bare_name(function)
    if not name.isidentifier():
        return None
    pattern = re.compile(rf"\s*(?:async\s+)?def\s+{name}\b")
    lines = _lines(path)
    for index in range(min(line, len(lines)), 0, -1):
        if pattern.match(lines[index - 1]):
            return index
    return None
