# mypy: ignore-errors
"""Tensors rounded to half precision, one behind the other: blocks of many of them in one kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import triton
import triton.language as tl

# Values of a block.
VALUES = 1024
# So many at a time, as each is a branch in the kernel.
_TOGETHER = 16


class Rounding(NamedTuple):
    """Contiguous tensors; first and last block of each, its values and their place; all blocks."""

    tensors: tuple[torch.Tensor, ...]
    shapes: tuple[tuple[int, int, int, int], ...]
    blocks: int


def roundings(tensors: Sequence[torch.Tensor]) -> list[Rounding]:
    """What has a kernel round ``tensors``, as many as one kernel takes in each."""
    made, place = [], 0
    for first in range(0, len(tensors), _TOGETHER):
        some = tensors[first : first + _TOGETHER]
        shapes, blocks = [], 0
        for t in some:
            begin = blocks
            blocks += triton.cdiv(t.numel(), VALUES)
            shapes.append((begin, blocks, t.numel(), place))
            place += t.numel()
        made.append(Rounding(tuple(some), tuple(shapes), blocks))
    return made


@triton.jit
def in_half(tensors, shapes: tl.constexpr, out, VALUES: tl.constexpr):
    round_block(tl.program_id(0), tensors, shapes, out, VALUES)


@triton.jit
def round_block(block, tensors, shapes: tl.constexpr, out, VALUES: tl.constexpr):
    """The values of one block to their place in ``out``."""
    for i in tl.static_range(len(shapes)):
        if (block >= shapes[i][0]) & (block < shapes[i][1]):
            at = (block - shapes[i][0]) * VALUES + tl.arange(0, VALUES)
            value = tl.load(tensors[i] + at, mask=at < shapes[i][2], other=0.0)
            to = out + shapes[i][3] + at
            tl.store(to, value.to(out.dtype.element_ty), mask=at < shapes[i][2])
