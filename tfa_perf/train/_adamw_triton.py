# mypy: ignore-errors
"""The norm of all gradients and AdamW's update of all parameters, as one Triton kernel each.

A program has a piece of one tensor. Where the pieces are stands in a table of addresses, so that
tensors need not lie together.
"""

import math

import torch
import triton
import triton.language as tl

PIECE = 1024
# Columns of the table.
COLUMNS = 7
_PARAMETER, _GRADIENT, _MEAN, _SQUARE, _STEP, _COUNT, _FIRST = map(tl.constexpr, range(COLUMNS))


def squares(table: torch.Tensor) -> torch.Tensor:
    """Sums of squares of the gradients, one a piece; every parameter's step is counted up."""
    sums = torch.empty(len(table), device=table.device)
    _squares[(len(table),)](table, sums, COLUMNS, PIECE)
    return sums


def update(
    table: torch.Tensor,
    sums: torch.Tensor,
    clip_norm: float | None,
    lr: torch.Tensor,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
) -> None:
    """Clip the gradients of the pieces in ``table`` by the norm that ``sums`` make, and update."""
    _update[(len(table),)](
        table, sums, len(sums), lr, clip_norm or 0.0, *betas, eps, weight_decay,
        *map(math.log, betas), clip_norm is not None,
        COLUMNS, PIECE, triton.next_power_of_2(len(sums)),
    )  # fmt: skip


@triton.jit
def _values(address, offset, count):
    """Values of a piece, and where they are."""
    at = address.to(tl.pointer_type(tl.float32)) + offset
    return tl.load(at, mask=offset < count, other=0.0), at


@triton.jit
def _squares(table, sums, COLUMNS: tl.constexpr, PIECE: tl.constexpr):
    row = table + tl.program_id(0) * COLUMNS
    gradient, _ = _values(tl.load(row + _GRADIENT), tl.arange(0, PIECE), tl.load(row + _COUNT))
    tl.store(sums + tl.program_id(0), tl.sum(gradient * gradient, 0))
    step = tl.load(row + _STEP).to(tl.pointer_type(tl.float32))
    is_first = tl.load(row + _FIRST) == 1
    tl.store(step, tl.load(step, mask=is_first, other=0.0) + 1, mask=is_first)


@triton.jit
def _update(
    table, sums, pieces, lr, clip_norm, beta1, beta2, eps, weight_decay,
    LOG_BETA1: tl.constexpr, LOG_BETA2: tl.constexpr, CLIP: tl.constexpr,
    COLUMNS: tl.constexpr, PIECE: tl.constexpr, PIECES: tl.constexpr,
):  # fmt: skip
    row = table + tl.program_id(0) * COLUMNS
    offset, count = tl.arange(0, PIECE), tl.load(row + _COUNT)
    gradient, gradient_at = _values(tl.load(row + _GRADIENT), offset, count)
    if CLIP:
        piece = tl.arange(0, PIECES)
        squares = tl.load(sums + piece, mask=piece < pieces, other=0.0)
        # As torch.nn.utils.clip_grad_norm_ has it; a norm that is NaN stays.
        factor = clip_norm / (tl.sqrt(tl.sum(squares, 0)) + 1e-6)
        gradient *= tl.where(factor > 1, 1.0, factor)
        tl.store(gradient_at, gradient, mask=offset < count)
    mean, mean_at = _values(tl.load(row + _MEAN), offset, count)
    square, square_at = _values(tl.load(row + _SQUARE), offset, count)
    parameter, at = _values(tl.load(row + _PARAMETER), offset, count)
    rate = tl.load(lr)
    step = tl.load(tl.load(row + _STEP).to(tl.pointer_type(tl.float32))).to(tl.float64)
    # Near 1 in the first steps, so that float32 would leave few digits of the difference.
    correction1 = (1 - tl.exp(step * LOG_BETA1)).to(tl.float32)
    correction2 = (1 - tl.exp(step * LOG_BETA2)).to(tl.float32)
    mean += (gradient - mean) * (1 - beta1)
    square = square * beta2 + gradient * gradient * (1 - beta2)
    root = tl.sqrt(square) / tl.sqrt(correction2) + eps
    parameter -= parameter * (rate * weight_decay)
    parameter -= rate / correction1 * mean / root
    tl.store(mean_at, mean, mask=offset < count)
    tl.store(square_at, square, mask=offset < count)
    tl.store(at, parameter, mask=offset < count)
