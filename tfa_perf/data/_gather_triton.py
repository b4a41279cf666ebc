# mypy: ignore-errors
"""The device gather as one Triton kernel: windows, conversion, scaling and labels."""

import torch
import triton
import triton.language as tl

# Values of a window that one program copies.
BLOCK = 1024


@triton.jit
def _gather(
    table,
    ends,
    labels,
    shift,
    factor,
    x,
    y,
    row,
    window,
    horizon,
    SCALED: tl.constexpr,
    SPACED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    i = tl.program_id(0).to(tl.int64)
    chunk = tl.program_id(1)
    end = tl.load(ends + i)
    at = chunk * BLOCK + tl.arange(0, BLOCK)
    if SPACED:
        size = window * SPACED
        column = at % SPACED
        source = at // SPACED * row + column
        inside = (at < size) & (column < row)
    else:
        size = window * row
        column = at % row
        source = at
        inside = at < size
    value = tl.load(table + (end - (window - 1)) * row + source, mask=inside, other=0.0)
    if table.dtype.element_ty != x.dtype.element_ty:
        # By way of float32, as on the CPU: other ways round twice, or not to nearest.
        value = value.to(tl.float32)
    if SCALED:
        value = value.to(tl.float32) - tl.load(shift + column, mask=inside, other=0.0)
        value = value * tl.load(factor + column, mask=inside, other=0.0)
    tl.store(x + i * size + at, value.to(x.dtype.element_ty), mask=at < size)
    if chunk == 0:
        tl.store(y + i, tl.load(labels + end + horizon))


def gather(
    X: torch.Tensor,
    ends: torch.Tensor,
    window: int,
    x: torch.Tensor,
    labels: torch.Tensor,
    horizon: int,
    y: torch.Tensor,
    shift: torch.Tensor | None,
    factor: torch.Tensor | None,
) -> None:
    """Fill ``x`` [b, T, F] and ``y`` [b] with the windows that end at rows ``ends`` [b].

    Rows of x lie one behind the other; where it has more columns than X, the rest is 0.
    """
    row, wide = X.shape[1], x.shape[-1]
    grid = (len(ends), triton.cdiv(window * wide, BLOCK))
    with torch.cuda.device(X.device):
        _gather[grid](
            X,
            ends,
            labels,
            shift,
            factor,
            x,
            y,
            row,
            window,
            horizon,
            SCALED=shift is not None,
            SPACED=0 if wide == row else wide,
            BLOCK=BLOCK,
        )
