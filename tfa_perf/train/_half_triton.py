# mypy: ignore-errors
"""Tensors rounded to half precision, one behind the other, by one Triton kernel for many."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl

_VALUES = 1024
# So many at a time, as each is a branch in the kernel.
_TOGETHER = 16


def in_half(tensors: Sequence[torch.Tensor], dtype: torch.dtype) -> torch.Tensor:
    """Contiguous ``tensors`` in a row: [values of all] of ``dtype``."""
    out = tensors[0].new_empty(sum(t.numel() for t in tensors), dtype=dtype)
    place = 0
    for first in range(0, len(tensors), _TOGETHER):
        some = tensors[first : first + _TOGETHER]
        shapes, blocks = [], 0
        for t in some:
            begin = blocks
            blocks += triton.cdiv(t.numel(), _VALUES)
            shapes.append((begin, blocks, t.numel(), place))
            place += t.numel()
        _round[(blocks,)](tuple(some), tuple(shapes), out, _VALUES)
    return out


@triton.jit
def _round(tensors, shapes: tl.constexpr, out, VALUES: tl.constexpr):
    block = tl.program_id(0)
    for i in tl.static_range(len(shapes)):
        if (block >= shapes[i][0]) & (block < shapes[i][1]):
            at = (block - shapes[i][0]) * VALUES + tl.arange(0, VALUES)
            value = tl.load(tensors[i] + at, mask=at < shapes[i][2], other=0.0)
            to = out + shapes[i][3] + at
            tl.store(to, value.to(out.dtype.element_ty), mask=at < shapes[i][2])
