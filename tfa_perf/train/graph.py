"""A whole optimizer step in one CUDA graph, and its twin that runs the same body uncaptured."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from tfa_perf.config import ConfigError
from tfa_perf.train.captured_update import ClippedAdamW
from tfa_perf.train.feed import BatchFeed, Feed, RowFeed, resident
from tfa_perf.train.step import TrainStep
from tfa_perf.train.warm_up import restored

__all__ = ["FixedShapeStep", "GraphStep"]

_log = logging.getLogger(__name__)

# torch's notes on CUDA graphs ask for a few steps before a capture, in which libraries set
# themselves up and the optimizer makes its state.
_WARM_UP_STEPS = 3
# Baked into the captured kernels as numbers.
_CONSTANTS = ("betas", "eps", "weight_decay", "amsgrad", "maximize")


class FixedShapeStep(TrainStep):
    """Steps of one size that read from fixed addresses: what a graph captures, run without one.

    A group with fewer windows is padded; padding has weight 0 in the loss.

    With several ranks, raises ConfigError where the last step of a pass leaves one without a
    window.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if self._ranks.several:
            self._check_last_step()
        self._resident = resident(self.loader)
        self._feed: Feed | None = None
        self._mixing = next(
            (m for m in self.model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)),
            None,
        )

    def epoch(self, skip: int = 0) -> Iterator[int]:
        """As for eager steps; the very first step takes longer, because it prepares the others.

        Raises ValueError where a group must be padded and the model has batch normalisation,
        through which padding would change the other windows.
        """
        source = self.loader if self._resident is None else self._resident.row_batches()
        for group, of_all in self._groups(source, skip):
            if self._feed is None or not self._feed.fits(group):
                self._feed = self._feed_for(group)
                self._changed("sizes")
            own = self._feed.fill(group, of_all)
            if own < self._feed.capacity and self._mixing is not None:
                raise ValueError(
                    f"model: {type(self._mixing).__name__} mixes the windows of a batch, and a "
                    f"step of {self._feed.capacity} windows would be padded, as only {own} "
                    "are left; use drop_last=True in the loader, or graph=False"
                )
            windows = of_all or own
            self._execute()
            self._windows += windows
            yield windows

    def _feed_for(self, group: Sequence[Any]) -> Feed:
        if self._resident is None:
            example, *_ = (self._checked(batch) for batch in group)
            size = self._batch_size(len(example[0]))
            return BatchFeed(example, size, self.accumulation, self.device)
        size = self._batch_size(len(group[0]))
        return RowFeed(self._resident, size, self.accumulation, self.device)

    def _batch_size(self, first: int) -> int:
        # Captures exchange gradients: ranks must not differ in whether a group fits, and their
        # first batches may differ by a window.
        return self.loader.batch_size if self._ranks.several else first  # type: ignore[attr-defined]

    def _check_last_step(self) -> None:
        world_size = self._ranks.world_size
        sizes = [of_all for _, of_all in self.loader.step_windows()]  # type: ignore[attr-defined]
        if sizes and sizes[-1] < world_size:
            raise ConfigError(
                f"graph: the last step of a pass has {sizes[-1]} windows for {world_size} "
                "processes, but a captured step needs one for each; use another batch size, or "
                "graph=False (--no-graph)"
            )

    @staticmethod
    def _checked(batch: Any) -> Any:
        if len(batch) != 2:
            raise ValueError(
                f"loader: batches (x, y) are needed, got {len(batch)} parts; "
                "leave out what the model does not take"
            )
        return batch

    def _changed(self, what: str) -> None:
        """Called when what a capture relies on is no longer so."""

    def _execute(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self._body()

    def _body(self) -> None:
        assert self._feed is not None
        self._step(self._feed.batches())
        self._loss_sum.addcmul_(self._loss, self._feed.windows)


class GraphStep(FixedShapeStep):
    """One CUDA graph a step: gather, forward, backward, clip, optimizer, sum of the loss.

    Where the loader keeps its table on the device, a step sends row numbers and the windows are
    gathered in the graph; batches of any other loader are copied to where the graph reads them.

    Capture comes with the first step, after a few warm-up steps on a side stream, of which
    nothing remains in model, optimizer or random numbers. It is done again, and logged, when
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
        self._graph: torch.cuda.CUDAGraph | None = None
        self._fused = ClippedAdamW(self.optimizer, self._parameters, self._clip_norm)
        self._captured: tuple[Any, ...] = ()

    def _changed(self, what: str) -> None:
        if self._graph is not None:
            _log.info("capturing the step again: %s changed", what)
            # It may still be running.
            torch.cuda.synchronize(self.device)
            self._graph = None

    def _execute(self) -> None:
        self._keep_lr_tensors()
        if self._read_constants() != self._constants:
            raise RuntimeError(
                f"optimizer: {' or '.join(_CONSTANTS)} changed, but a captured step knows their "
                "old values; make a new step, or use graph=False (only lr may change)"
            )
        if self._graph is not None and self._addresses() != self._captured:
            self._changed("addresses, dtypes or training modes")
        if self._graph is None:
            self._capture()
        assert self._graph is not None
        self._graph.replay()

    def _capture(self) -> None:
        self._warm_up()
        # Gradients made inside the graph's own memory are written, not added to, at each replay.
        self.optimizer.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        try:
            # Threads of a loader may go on using CUDA meanwhile.
            with (
                _workspaces_of_its_own(),
                torch.cuda.graph(
                    graph, stream=torch.cuda.Stream(self.device), capture_error_mode="thread_local"
                ),
            ):
                self._body()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise RuntimeError(
                f"graph: the step cannot be captured ({error}); a model must neither read values "
                "from the device nor choose shapes by them; change it, or use graph=False"
            ) from error
        self._fused.fill_table()
        self._graph, self._captured = graph, self._addresses()

    def _update(self) -> None:
        # The first warm-up step is the optimizer's own, which makes its state.
        if self._fused.fits():
            self._fused.step()
        else:
            super()._update()

    def _warm_up(self) -> None:
        loss_sum = self._loss_sum.clone()
        current = torch.cuda.current_stream(self.device)
        with restored(self.model, self.optimizer):
            self._stream.wait_stream(current)
            try:
                with torch.cuda.stream(self._stream):
                    for _ in range(_WARM_UP_STEPS):
                        super()._execute()
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
