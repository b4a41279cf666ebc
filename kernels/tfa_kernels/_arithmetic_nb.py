# mypy: ignore-errors
"""Arithmetic that numba has no name for."""

from numba import types
from numba.extending import intrinsic

from tfa_kernels._jit import inline_kernel, jit_disabled

# States that decay below this are set to zero: denormal arithmetic is about 100 times slower.
TINY = 1e-290


@inline_kernel
def flushed(value):
    return 0.0 if abs(value) < TINY else value


@intrinsic
def _fused(typing_context, a, b, c):
    def codegen(context, builder, signature, args):
        return builder.fma(*args)

    return types.float64(types.float64, types.float64, types.float64), codegen


def _rounded_twice(a, b, c):
    return a * b + c


# a * b + c, rounded once: one instruction, where a recursion would wait for two.
fma = _rounded_twice if jit_disabled() else _fused
