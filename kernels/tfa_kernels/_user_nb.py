# mypy: ignore-errors
"""Ops made of a function of somebody else's, called with each row's window."""

from tfa_kernels._jit import inline_kernel
from tfa_kernels._op_nb import FAILED, HISTORY, column, read, written


def _of_one(function):
    @inline_kernel
    def call(u, first, last):
        return function(read(u, 0, first, last))

    return call


def _of_two(function):
    @inline_kernel
    def call(u, first, last):
        return function(read(u, 0, first, last), read(u, 1, first, last))

    return call


def _of_three(function):
    @inline_kernel
    def call(u, first, last):
        return function(read(u, 0, first, last), read(u, 1, first, last), read(u, 2, first, last))

    return call


def _of_four(function):
    @inline_kernel
    def call(u, first, last):
        return function(
            read(u, 0, first, last), read(u, 1, first, last), read(u, 2, first, last),
            read(u, 3, first, last),
        )  # fmt: skip

    return call


def _of_five(function):
    @inline_kernel
    def call(u, first, last):
        return function(
            read(u, 0, first, last), read(u, 1, first, last), read(u, 2, first, last),
            read(u, 3, first, last), read(u, 4, first, last),
        )  # fmt: skip

    return call


_CALLS = (_of_one, _of_two, _of_three, _of_four, _of_five)


def windowed(function, inputs):
    """The op that calls a compiled function of `inputs` arrays with rows t - history..t."""
    call = _CALLS[inputs - 1](function)

    def user_op(u, lo, hi):
        back, out = u.shape[HISTORY], written(u, 0)
        for t in range(max(lo, back), hi):
            # An exception would be lost in a thread of the pass.
            try:
                out[t - lo] = call(u, t - back, t + 1)
            except Exception:  # noqa: PERF203
                u.ints[column(u, 0), FAILED] = t + 1
                return

    return user_op
