"""Where windows are gathered: the choice, and falling back with a reason that is logged."""

from __future__ import annotations

import logging

import torch

from tfa_perf.data.device_windows import ResidentWindows, shortage
from tfa_perf.data.host_windows import HostWindows
from tfa_perf.data.sent_windows import SentWindows
from tfa_perf.data.table import WindowForm
from tfa_perf.data.window_set import WindowSet

__all__ = ["Source", "choose_source"]

Source = HostWindows | SentWindows | ResidentWindows

_log = logging.getLogger("tfa_perf.data.loader")


def choose_source(
    found: WindowSet,
    device: torch.device,
    dtype: torch.dtype,
    *,
    in_order: bool,
    return_index: bool,
    pin_memory: bool,
    num_threads: int,
    overlapping: bool = False,
) -> tuple[Source, str]:
    """The source of batches on ``device``, and its mode.

    The mode is "cpu", "device-resident", "streamed rows" or "pinned windows".
    """
    table, plan = found.table, found.plan
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", torch.cuda.current_device())
    if isinstance(table.X, torch.Tensor) and table.X.device != device:
        raise ValueError(
            f"X: is on {table.X.device}, batches are wanted on {device}; "
            f"pass device={str(table.X.device)!r} or X.to({str(device)!r})"
        )
    form = WindowForm(plan.window, plan.horizon, dtype, found.unmasked, return_index, overlapping)
    if device.type == "cpu":
        if pin_memory and not torch.cuda.is_available():
            _log.warning("pin_memory=True: batches are not pinned, torch sees no CUDA device")
            pin_memory = False
        host = HostWindows(table, form, pinned=pin_memory, num_threads=num_threads)
        return host, "cpu"
    reason = shortage(table, device)
    if reason is None:
        try:
            return ResidentWindows(table, form, device), "device-resident"
        except torch.OutOfMemoryError as error:
            reason = f"the table does not fit: {error}"
    mode = "streamed rows" if in_order else "pinned windows"
    _log.warning("%s instead of a table on %s: %s", mode, device, reason)
    return SentWindows(table, form, device, num_threads=num_threads), mode
