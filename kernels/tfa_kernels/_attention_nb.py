# mypy: ignore-errors
"""Attention inside windows that lie in memory: which of them a thread takes, and their gradient."""

import numpy as np
from numba import prange

from tfa_kernels._jit import parallel_kernel
from tfa_kernels._window_attention_nb import attend, attend_gradient, space


@parallel_kernel
def attention(qkv, windows, T, W, heads, scale, group, step, at, out):
    """out [b T, d] of queries, keys and values, T rows of 3 d a window, both flat.

    A thread takes ``group`` windows at a time, which begin ``step`` values after each other; ``at``
    is the address of what it does with one.
    """
    d = W * heads
    for number in prange((windows + group - 1) // group):
        room = space((T, heads, W), 3, 1)
        first = np.int64(number) * group
        for window in range(first, min(first + group, windows)):
            start = window * step
            # The next window's rows, read while this one's are worked on.
            attend(at, qkv, start, (T, heads, W), scale, room, out, window * T * d,
                   (qkv, start + 3 * T * d, step))  # fmt: skip


@parallel_kernel
def attention_gradient(gradient, qkv, windows, T, W, heads, scale, group, step, at, out):
    """The gradient of qkv, from that of what `attention` gives; all flat.

    out has it as qkv lies, where windows share no row. Where they do, each group has its sums of
    rows, one group's behind the other's.
    """
    d = W * heads
    shared, room_of_group = step < 3 * T * d, (group - 1) * step + 3 * T * d
    for number in prange((windows + group - 1) // group):
        room = space((T, heads, W), 4, 2)
        first, place = np.int64(number) * group, np.int64(number) * room_of_group
        if shared:
            out[place : place + room_of_group] = 0.0
        for window in range(first, min(first + group, windows)):
            start, begin = window * step, window * T * d
            attend_gradient(at, gradient, begin, qkv, start, (T, heads, W), scale, room, out,
                            place, shared, (qkv, start + 3 * T * d, step),
                            (gradient, begin + T * d, T * d))  # fmt: skip
            place += step


@parallel_kernel
def add_groups(sums, windows, T, columns, group, out):
    """out [windows + T - 1, columns]: what groups of windows have of each row, in their order."""
    room = (group + T - 1) * columns
    for row in prange(windows + T - 1):
        r = np.int64(row)
        to = r * columns
        out[to : to + columns] = 0.0
        for number in range(max(0, r - T + 1) // group, min(r, windows - 1) // group + 1):
            at = number * room + (r - number * group) * columns
            for c in range(columns):
                out[to + c] += sums[at + c]
