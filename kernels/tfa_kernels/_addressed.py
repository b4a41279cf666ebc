"""Kernels that compiled code calls by address.

A kernel that names its callees contains their code: every caller compiles all of it again, and a
function of somebody else's cannot join without the whole being compiled anew. Called by address, a
callee is compiled once, when it is first asked for, whoever calls it and however many do.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cached_property
from types import FunctionType
from typing import Any

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from tfa_kernels._jit import compile_signature, jit_disabled

_interpreted: dict[int, Callable[[Any, int, int], None]] = {}
_numbers = itertools.count()


class AddressedKernel:
    """``function(unit, lo, hi)`` of one signature, compiled when its address is first asked for.

    cached: whether the machine code is kept on disk.
    """

    def __init__(self, function: FunctionType, signature: Any, *, cached: bool = True) -> None:
        self.__name__ = function.__name__
        self.__doc__ = function.__doc__
        self._function, self._signature, self._cached = function, signature, cached

    @cached_property
    def address(self) -> int:
        """Where the code is in this process; without JIT a number that stands for it."""
        if jit_disabled():
            number = next(_numbers)
            _interpreted[number] = self._function
            return number
        compiled = self._dispatcher.overloads[self._signature.args]
        return int(compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name))

    @cached_property
    def _dispatcher(self) -> Any:
        # An attribute: the code lives no longer than its dispatcher.
        return compile_signature(self._function, self._signature, cached=self._cached)


def _call_interpreted(address: int, unit: Any, lo: int, hi: int) -> None:
    _interpreted[address](unit, lo, hi)


@intrinsic
def _call_compiled(typing_context, address, unit, lo, hi):  # type: ignore[no-untyped-def]
    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        convention, callee_types = context.call_conv, signature.args[1:]
        function_type = convention.get_function_type(types.none, callee_types)
        callee = builder.inttoptr(args[0], function_type.as_pointer())
        status, _ = convention.call_function(builder, callee, types.none, callee_types, args[1:])
        with cgutils.if_unlikely(builder, status.is_error):
            convention.return_status_propagate(builder, status)
        return context.get_dummy_value()

    return types.void(address, unit, lo, hi), codegen


call_address = _call_interpreted if jit_disabled() else _call_compiled
