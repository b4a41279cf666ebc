# mypy: ignore-errors
"""Which window comes at which position of an epoch, and where it ends: loops, no validation."""

import numpy as np
from numba import prange

from tfa_kernels._jit import inline_kernel, parallel_kernel

_WORD = 0xFFFFFFFF


@inline_kernel
def _round(value, key, side):
    # A 32-bit mixing function (xor, shift, odd multiplier), scaled into 0..side-1.
    h = value ^ key
    h = ((h ^ (h >> 16)) * 0x21F0AAAD) & _WORD
    h = ((h ^ (h >> 15)) * 0x735A2D97) & _WORD
    return ((h ^ (h >> 15)) * side) >> 32


@inline_kernel
def _wrapped(value, side):
    # value - side where that is not negative: a branch here would go the wrong way half the time.
    less = value - side
    return less + (side & (less >> 63))


@inline_kernel
def _network(x, left_side, right_side, keys):
    left = x // right_side
    right = x - left * right_side
    for k in range(0, keys.size, 2):
        left = _wrapped(left + _round(right, keys[k], left_side), left_side)
        right = _wrapped(right + _round(left, keys[k + 1], right_side), right_side)
    return left * right_side + right


@parallel_kernel
def permuted(first, count, left_side, right_side, keys, chunk, out):
    """out[i] = image of first + i under a keyed permutation of 0..count-1.

    A Feistel network on left_side x right_side >= count cells; an image outside 0..count-1 goes
    through it again, which leaves a permutation of 0..count-1 (cycle walking). Round by round over
    ``chunk`` elements, which the compiler turns into vector code and the nearest cache holds.
    """
    for b in prange((out.size + chunk - 1) // chunk):
        begin = np.int64(b) * chunk
        size = min(chunk, out.size - begin)
        lefts = out[begin : begin + size]
        rights = np.empty(size, np.int64)
        left = (first + begin) // right_side
        right = first + begin - left * right_side
        for i in range(size):
            lefts[i] = left
            rights[i] = right
            right += 1
            if right == right_side:
                right = 0
                left += 1
        for k in range(0, keys.size, 2):
            left_key, right_key = keys[k], keys[k + 1]
            for i in range(size):
                mixed = _wrapped(lefts[i] + _round(rights[i], left_key, left_side), left_side)
                lefts[i] = mixed
                rights[i] = _wrapped(rights[i] + _round(mixed, right_key, right_side), right_side)
        for i in range(size):
            lefts[i] = lefts[i] * right_side + rights[i]
        for i in range(size):
            while lefts[i] >= count:
                lefts[i] = _network(lefts[i], left_side, right_side, keys)


@parallel_kernel
def last_rows(windows, count, run_windows, run_ends, stride, hint, hint_shift, out):
    """out[i] = last row of window windows[i]; index of the first beyond 0..count-1, or -1.

    Run k holds the windows run_windows[k]..run_windows[k+1]-1; the first ends at row run_ends[k],
    each other ``stride`` rows later. hint[w >> hint_shift] and the entry after it enclose the run
    of window w. Each window is read once, so what is checked is what is used.
    """
    if run_ends.size == 1:
        outside = False
        for i in range(windows.size):
            w = windows[i]
            outside |= (w < 0) | (w >= count)
            out[i] = run_ends[0] + w * stride
        if not outside:
            return -1
    for i in range(windows.size):
        w = windows[i]
        if w < 0 or w >= count:
            return i
        low, high = hint[w >> hint_shift], hint[(w >> hint_shift) + 1]
        while low < high:
            middle = (low + high + 1) // 2
            if run_windows[middle] <= w:
                low = middle
            else:
                high = middle - 1
        out[i] = run_ends[low] + (w - run_windows[low]) * stride
    return -1
