"""Windows gathered on a device, from rows that are there."""

from __future__ import annotations

import logging
from typing import Any

import torch

__all__ = ["DeviceGather"]

_log = logging.getLogger(__name__)


class DeviceGather:
    """Cuts windows out of rows on one device, converts and scales them, and fetches labels.

    One Triton kernel on a CUDA device where Triton works, torch's own otherwise; both give the
    same bits, which are those of the CPU gather.
    """

    def __init__(
        self,
        device: torch.device,
        window: int,
        dtype: torch.dtype,
        shift: Any = None,
        factor: Any = None,
    ) -> None:
        self._window, self._dtype = window, dtype
        self._shift = self._factor = None
        if shift is not None:
            self._shift = torch.as_tensor(shift, device=device)
            self._factor = torch.as_tensor(factor, device=device)
        self._triton = _triton_gather(device)

    def __call__(
        self, X: torch.Tensor, ends: torch.Tensor, labels: torch.Tensor, horizon: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """x [b, T, F] and y [b, 1] of the windows that end at rows ``ends`` int64 [b] of X.

        ``labels[ends + horizon]`` are the labels.
        """
        rows, columns = X.shape
        if self._triton is not None and labels.dtype is not torch.bool:
            x = torch.empty((len(ends), self._window, columns), dtype=self._dtype, device=X.device)
            y = torch.empty((len(ends), 1), dtype=labels.dtype, device=X.device)
            self._triton(X, ends, self._window, x, labels, horizon, y, self._shift, self._factor)
            return x, y
        windows = X.as_strided(
            (rows - self._window + 1, self._window, columns), (columns, columns, 1)
        )
        x = windows.index_select(0, ends - (self._window - 1))
        if self._shift is not None and self._factor is not None:
            x = (x.float() - self._shift) * self._factor
        return x.to(self._dtype), labels.index_select(0, ends + horizon).unsqueeze(1)


def _triton_gather(device: torch.device) -> Any:
    if device.type != "cuda":
        return None
    try:
        from tfa_perf.data._gather_triton import gather

        # Compiles, so that a machine without a working compiler is found out here.
        one = torch.zeros((1, 1), device=device)
        row = torch.zeros(1, dtype=torch.int64, device=device)
        gather(one, row, 1, one.clone(), one, 0, one.clone(), None, None)
    except Exception as error:  # Triton raises whatever its compiler and loader raise
        _log.warning("device gather by torch, not by one Triton kernel: %r", error)
        return None
    return gather
