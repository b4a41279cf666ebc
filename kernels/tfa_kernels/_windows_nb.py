# mypy: ignore-errors
"""Window gather kernels: pure loops, no validation."""

import numpy as np
from numba import prange

from tfa_kernels._jit import inline_kernel, parallel_kernel
from tfa_kernels._memory_nb import (
    LINE,
    copy_bytes,
    finish_streaming,
    prefetch,
    stream_line,
)

# Bytes copied between two looks ahead.
_STEP = 256


@inline_kernel
def _look_ahead(flat, ahead, size):
    for line in range(0, size, LINE):
        prefetch(flat, ahead + line)


@inline_kernel
def _stream(out, to, flat, at, ahead, size):
    # Whole lines go past the caches, from where out is aligned to one.
    done = min((LINE - (out.ctypes.data + to) % LINE) % LINE, size)
    copy_bytes(out, to, flat, at, done)
    _look_ahead(flat, ahead, done)
    while done + _STEP <= size:
        _look_ahead(flat, ahead + done, _STEP)
        for line in range(done, done + _STEP, LINE):
            stream_line(out, to + line, flat, at + line)
        done += _STEP
    _look_ahead(flat, ahead + done, size - done)
    copy_bytes(out, to + done, flat, at + done, size - done)


@inline_kernel
def copy_label(label_out, i, labels, row, ahead, size):
    """Copy the label of ``row``, of ``size`` bytes, and ask for the one of row ``ahead``."""
    prefetch(labels, ahead * size)
    copy_bytes(label_out, i * size, labels, row * size, size)


@parallel_kernel
def gather(
    flat, starts, row_bytes, window_bytes, group, stream, out,
    labels, label_row, label_bytes, label_out,
):  # fmt: skip
    """Copy window_bytes from byte starts[i] * row_bytes of flat to byte i * window_bytes of out.

    Bytes, so that one compiled kernel serves every dtype. Windows lie anywhere in the table, so
    the hardware sees none of them coming: while one is copied, the next one is asked for. A
    thread takes ``group`` windows at a time. Label starts[i] + label_row, of label_bytes, goes to
    place i of label_out; 0 bytes for none.
    """
    count = starts.size
    for b in prange((count + group - 1) // group):
        first = np.int64(b) * group
        for i in range(first, min(first + group, count)):
            following = starts[min(i + 1, count - 1)]
            ahead = following * row_bytes
            at, to = starts[i] * row_bytes, i * window_bytes
            if label_bytes:
                row = starts[i] + label_row
                copy_label(label_out, i, labels, row, following + label_row, label_bytes)
            if stream:
                _stream(out, to, flat, at, ahead, window_bytes)
            else:
                # In one piece: some processors copy a long piece without reading what it replaces.
                _look_ahead(flat, ahead, window_bytes)
                copy_bytes(out, to, flat, at, window_bytes)
        if stream:
            finish_streaming()


@parallel_kernel
def first_outside(starts, last):
    """Index of the first start that is not in 0..last, or -1."""
    # Without a way out of the first loop the compiler makes vector code of it.
    outside = False
    for i in range(starts.size):
        outside |= (starts[i] < 0) | (starts[i] > last)
    if outside:
        for i in range(starts.size):
            if starts[i] < 0 or starts[i] > last:
                return i
    return -1
