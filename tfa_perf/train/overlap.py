"""Windows that begin row after row share their rows: what depends on a row alone is made once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tfa_kernels import overlap_add
from tfa_perf.train.cpu_attention import as_array, kernel_threads

__all__ = ["shared_rows", "windows_of"]


def shared_rows(x: Tensor) -> Tensor | None:
    """The rows [b + T - 1, F] of windows x [b, T, F] that overlap in memory; None for others.

    Such an x is a view in which each window begins one row after the one before, as a WindowLoader
    with ``overlapping=True`` yields. For float32 on a CPU, uncompiled.
    """
    if (
        x.device.type != "cpu"
        or x.dtype != torch.float32
        or x.dim() != 3
        or min(x.shape) < 1
        or torch.compiler.is_compiling()
    ):
        return None
    windows, rows, columns = x.shape
    # One window, or windows of one row, share nothing; their strides say nothing either.
    if windows == 1 or rows == 1 or x.stride() != (columns, columns, 1):
        return None
    return x.as_strided((windows + rows - 1, columns), (columns, 1))


def windows_of(rows: Tensor, T: int) -> Tensor:
    """All windows of T of the rows [R, d], copied: [R - T + 1, T, d]."""
    return _Windows.apply(rows, T)


class _Windows(torch.autograd.Function):
    @staticmethod
    def forward(rows: Tensor, T: int) -> Tensor:
        count, columns = len(rows) - T + 1, rows.shape[1]
        return rows.as_strided((count, T, columns), (columns, columns, 1)).contiguous()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: Tensor) -> None:
        pass

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        summed = overlap_add(as_array(gradient), num_threads=kernel_threads())
        return torch.from_numpy(summed), None
