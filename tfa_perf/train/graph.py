"""Whole optimizer steps in one CUDA graph."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from tfa_perf.train.captured_update import ClippedAdamW
from tfa_perf.train.fixed_shape import FixedShapeStep
from tfa_perf.train.warm_up import restored

__all__ = ["GraphStep"]

_log = logging.getLogger(__name__)

# torch's notes on CUDA graphs ask for a few steps before a capture, in which libraries set
# themselves up and the optimizer makes its state.
_WARM_UP_STEPS = 3
# Baked into the captured kernels as numbers.
_CONSTANTS = ("betas", "eps", "weight_decay", "amsgrad", "maximize")


@dataclass(frozen=True)
class _Captured:
    graph: torch.cuda.CUDAGraph
    gradients: list[torch.Tensor | None]
    """Of its last step, in the graph's memory."""
    tables: list[torch.Tensor]
    """Read by the graph, in memory that is not its own."""


class GraphStep(FixedShapeStep):
    """One CUDA graph a step: gather, forward, backward, clip, optimizer, sum of the loss.

    Where the loader keeps its table on the device, a step sends row numbers and the windows are
    gathered in the graph; batches of any other loader are copied to where the graph reads them.
    There ``graph_steps`` steps may be one graph, which reads row numbers and learning rates of them
    all: the host has nothing to do between them. Another graph of one step takes what is left over
    of a pass. A gradient that is looked at afterwards is that of the last step.

    Capture comes with the first step of its kind, after a few warm-up steps on a side stream, of
    which nothing remains in model, optimizer or random numbers. It is done again, and logged, when
    sizes, dtypes, addresses (``model.to``, ``optimizer.load_state_dict``) or training modes have
    changed. The learning rate may change at any time, by ``set_lr`` or by torch's schedulers.

    A capture frees torch's cuBLAS workspaces, as those of ``mode="reduce-overhead"`` do: a graph
    captured elsewhere without such care must be captured again after it.

    Raises
    ------
    ValueError : no CUDA device, or an optimizer other than a capturable Adam or AdamW.
    RuntimeError : the step cannot be captured, or a constant of the optimizer has changed.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        devices = {str(p.device) for p in self.model.parameters()}
        if self.device.type != "cuda" or len(devices) > 1:
            raise ValueError(
                f"graph: all parameters must be on one CUDA device, they are on "
                f"{', '.join(sorted(devices))}; move the model there, or use graph=False"
            )
        if type(self.optimizer) not in (torch.optim.Adam, torch.optim.AdamW) or not all(
            group["capturable"] for group in self.optimizer.param_groups
        ):
            raise ValueError(
                "optimizer: a graph needs torch.optim.AdamW or Adam with capturable=True, got "
                f"{type(self.optimizer).__name__}; use make_optimizer(model), or graph=False"
            )
        self._lrs = [self._lr_tensor(g["lr"]) for g in self.optimizer.param_groups]
        self._constants = self._read_constants()
        self._stream = torch.cuda.Stream(self.device)
        # Graphs that share memory must be captured on the same one.
        self._capturing = torch.cuda.Stream(self.device)
        self._graphs: dict[int, _Captured] = {}
        self._latest: _Captured | None = None
        self._fused = ClippedAdamW(self.optimizer, self._parameters, self._clip_norm)
        self._captured: tuple[Any, ...] = ()

    def _changed(self, what: str) -> None:
        if self._graphs:
            _log.info("capturing the step again: %s changed", what)
            # They may still be running.
            torch.cuda.synchronize(self.device)
            self._graphs.clear()
            self._latest = None

    def _execute(self, steps: int) -> None:
        self._keep_lr_tensors()
        if self._read_constants() != self._constants:
            raise RuntimeError(
                f"optimizer: {' or '.join(_CONSTANTS)} changed, but a captured step knows their "
                "old values; make a new step, or use graph=False (only lr may change)"
            )
        if self._graphs and self._addresses() != self._captured:
            self._changed("addresses, dtypes or training modes")
        if steps not in self._graphs:
            self._latest = self._graphs[steps] = self._capture(steps)
        captured = self._graphs[steps]
        captured.graph.replay()
        if captured is not self._latest:
            for parameter, gradient in zip(self._parameters, captured.gradients, strict=True):
                parameter.grad = gradient
            self._latest = captured

    def _capture(self, steps: int) -> _Captured:
        self._warm_up(steps)
        tables = self._fused.make_tables(steps)
        graph = torch.cuda.CUDAGraph()
        # They are never replayed at the same time, and all that outlasts a replay in their memory,
        # the gradients, is held below.
        pool = next((other.graph.pool() for other in self._graphs.values()), None)
        try:
            # Threads of a loader may go on using CUDA meanwhile.
            with (
                _workspaces_of_its_own(),
                torch.cuda.graph(
                    graph,
                    pool=pool,
                    stream=self._capturing,
                    capture_error_mode="thread_local",
                ),
            ):
                self._body(steps)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise RuntimeError(
                f"graph: the step cannot be captured ({error}); a model must neither read values "
                "from the device nor choose shapes by them; change it, or use graph=False"
            ) from error
        self._fused.fill_tables()
        self._captured = self._addresses()
        return _Captured(graph, [p.grad for p in self._parameters], tables)

    def _update(self) -> None:
        # The first warm-up step is the optimizer's own, which makes its state.
        if self._fused.fits():
            self._fused.step()
        else:
            super()._update()

    def _warm_up(self, steps: int) -> None:
        loss_sum = self._loss_sum.clone()
        current = torch.cuda.current_stream(self.device)
        with restored(self.model, self.optimizer):
            self._stream.wait_stream(current)
            try:
                with torch.cuda.stream(self._stream):
                    for _ in range(_WARM_UP_STEPS):
                        self._body(steps)
            finally:
                current.wait_stream(self._stream)
        self._loss_sum.copy_(loss_sum)

    def _addresses(self) -> tuple[Any, ...]:
        """All that the graph refers to from outside its own memory."""
        # At every step: model.parameters() and buffers() would take the host twice as long.
        modules = list(self.model.modules())
        tensors = [t for m in modules for t in (*m._parameters.values(), *m._buffers.values())]
        state = self.optimizer.state
        tensors += [t for p in self._parameters for t in state[p].values()]
        return (
            [(t.data_ptr(), t.dtype) for t in tensors if t is not None],
            [m.training for m in modules],
        )

    def _keep_lr_tensors(self) -> None:
        # A scheduler or a loaded state may have put something else in their place.
        for group, own in zip(self.optimizer.param_groups, self._lrs, strict=True):
            if group["lr"] is not own:
                own.fill_(float(group["lr"]))
                group["lr"] = own

    def _lr_tensor(self, lr: Any) -> torch.Tensor:
        if isinstance(lr, torch.Tensor) and lr.device == self.device:
            return lr
        return torch.tensor(float(lr), device=self.device)

    def _read_constants(self) -> list[tuple[Any, ...]]:
        return [tuple(g[name] for name in _CONSTANTS) for g in self.optimizer.param_groups]


@contextmanager
def _workspaces_of_its_own() -> Iterator[None]:
    """A capture in here takes cuBLAS workspaces from the graph's memory, where they stay.

    Torch keeps a workspace for each stream and frees them all when a model compiled with
    ``mode="reduce-overhead"`` is captured. A graph that has learned the address of such a
    workspace then reads and writes memory that is no longer its own.
    """
    torch._C._cuda_clearCublasWorkspaces()
    try:
        yield
    finally:
        torch._C._cuda_clearCublasWorkspaces()
