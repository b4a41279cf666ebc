"""Clipping and AdamW's update as two kernels for all parameters, where torch takes a dozen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from tfa_perf.train.attention import have_kernels

__all__ = ["ClippedAdamW"]

# Values of all parameters; for more, torch's own kernels have enough to do at a time.
MOST = 1 << 22
# Options of AdamW that the kernels do not have.
_OTHERWISE = ("amsgrad", "maximize", "differentiable")
_MOMENTS = ("exp_avg", "exp_avg_sq")


class ClippedAdamW:
    """What ``clip_grad_norm_`` and ``optimizer.step`` do, for a capturable AdamW on a CUDA device.

    State and learning rate are the optimizer's own. The norm is that of ``parameters``.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        parameters: Sequence[Tensor],
        clip_norm: float | None,
    ) -> None:
        self._optimizer, self._all, self._clip_norm = optimizer, parameters, clip_norm
        self._device = parameters[0].device
        self._shape = (0, 0)
        self._tables: list[Tensor] = []
        self._captured: list[list[tuple[int, ...]]] = []

    def fits(self) -> bool:
        """Whether the kernels compute what the optimizer would: its state is there already."""
        groups = self._optimizer.param_groups
        changed = [p for group in groups for p in group["params"] if p.grad is not None]
        return (
            type(self._optimizer) is torch.optim.AdamW
            and not any(group[name] for group in groups for name in _OTHERWISE)
            and all(isinstance(group["lr"], Tensor) and group["lr"].is_cuda for group in groups)
            and all(isinstance(b, float) and 0 < b < 1 for group in groups for b in group["betas"])
            and set(map(id, changed)) == {id(p) for p in self._all if p.grad is not None}
            and sum(p.numel() for p in changed) <= MOST
            and all(map(self._is_plain, changed))
            and have_kernels(self._device)
        )

    def step(self) -> None:
        """Count up the steps of all parameters that have a gradient, clip those and update.

        Steps that are captured need `make_tables` before, which must come after a step of the
        same parameters that is not captured, and `fill_tables` after.
        """
        from tfa_perf.train import _adamw_triton as kernels

        groups = [
            (group, list(self._pieces(group["params"], kernels.PIECE)))
            for group in self._optimizer.param_groups
        ]
        rows = [row for _, pieces in groups for row in pieces]
        if not rows:
            return
        if torch.cuda.is_current_stream_capturing():
            table = self._tables[len(self._captured)]
            self._captured.append(rows)
        else:
            self._shape = len(rows), kernels.COLUMNS
            table = torch.tensor(rows, device=self._device)
        sums = kernels.squares(table)
        parts = table.split([len(pieces) for _, pieces in groups])
        for (group, pieces), part in zip(groups, parts, strict=True):
            if pieces:
                kernels.update(
                    part, sums, self._clip_norm, group["lr"], group["betas"], group["eps"],
                    group["weight_decay"],
                )  # fmt: skip

    def make_tables(self, steps: int) -> list[Tensor]:
        """Room for the addresses of ``steps`` captured steps, to be kept as long as their graph.

        Each has its own, as gradients are made anew; and in no graph's memory, which a replay uses
        for other things before it comes there.
        """
        self._captured = []
        self._tables = [
            torch.empty(self._shape, dtype=torch.int64, device=self._device) for _ in range(steps)
        ]
        return self._tables

    def fill_tables(self) -> None:
        """Tell the kernels where the tensors are: after a capture, before it is replayed."""
        for table, rows in zip(self._tables, self._captured, strict=False):
            table.copy_(torch.tensor(rows))

    def _pieces(self, parameters: Iterable[Tensor], size: int) -> Iterator[tuple[int, ...]]:
        """Rows of the table: addresses, count, and whether it is the parameter's first."""
        for p in parameters:
            if p.grad is None:
                continue
            state = self._optimizer.state[p]
            tensors = p, p.grad, *(state[name] for name in _MOMENTS)
            for first in range(0, p.numel(), size):
                addresses = (t.data_ptr() + first * t.element_size() for t in tensors)
                count = min(size, p.numel() - first)
                yield *addresses, state["step"].data_ptr(), count, int(first == 0)

    def _is_plain(self, p: Tensor) -> bool:
        state = self._optimizer.state.get(p, {})
        tensors = [p, p.grad, *map(state.get, (*_MOMENTS, "step"))]
        return all(
            isinstance(t, Tensor) and t.dtype == torch.float32 and t.is_cuda and t.is_contiguous()
            for t in tensors
        )
