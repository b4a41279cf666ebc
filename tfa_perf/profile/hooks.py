"""Phase timers around the parts of a training step, installed without editing the program."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from types import ModuleType
from typing import Any

from tfa_perf.profile import compile_phases, wrappers
from tfa_perf.profile.graph_steps import GraphSteps
from tfa_perf.profile.phases import recording_main_thread, set_tracing
from tfa_perf.profile.post_import import on_import

Function = Callable[..., Any]
Undo = Callable[[], None]
_MARK = "__tfa_perf_hook__"

_Wraps = dict[str, Callable[[Function], Function]]

_LIGHTNING_MODULE: _Wraps = {
    "LightningModule.log": wrappers.log,
    "LightningModule.log_dict": wrappers.log,
}
_LIGHTNING_TRAINER: _Wraps = {"Trainer.save_checkpoint": wrappers.checkpoint}

# What else is wrapped once the program imports the module; torch itself is in `_Patches.torch`.
_LIBRARIES: dict[str, _Wraps] = {
    "torch.utils.data.dataloader": {
        "DataLoader.__iter__": wrappers.data_wait,
        "_BaseDataLoaderIter.__next__": wrappers.data_wait,
    },
    "torch.utils.tensorboard.writer": {
        "SummaryWriter.add_scalar": wrappers.log,
        "SummaryWriter.add_scalars": wrappers.log,
        "SummaryWriter.add_histogram": wrappers.log,
        "SummaryWriter.flush": wrappers.log,
    },
    "torchmetrics.metric": {
        "Metric.__call__": wrappers.log,
        # Every metric replaces its own update and compute by what these return.
        "Metric._wrap_update": wrappers.log_result,
        "Metric._wrap_compute": wrappers.log_result,
    },
    "lightning.pytorch.core.module": _LIGHTNING_MODULE,
    "lightning.pytorch.trainer.trainer": _LIGHTNING_TRAINER,
    "pytorch_lightning.core.module": _LIGHTNING_MODULE,
    "pytorch_lightning.trainer.trainer": _LIGHTNING_TRAINER,
    "transformers.trainer": {
        "Trainer.log": wrappers.log,
        "Trainer._save_checkpoint": wrappers.checkpoint,
        "Trainer.save_model": wrappers.checkpoint,
    },
    "transformers.modeling_utils": {"PreTrainedModel.save_pretrained": wrappers.checkpoint},
    "safetensors.torch": {"save_file": wrappers.checkpoint},
    "tqdm.std": {
        "tqdm.update": wrappers.log,
        "tqdm.refresh": wrappers.log,
        "tqdm.set_postfix": wrappers.log,
    },
    "rich.progress": {"Progress.update": wrappers.log, "Progress.advance": wrappers.log},
    "logging": {"Logger.handle": wrappers.log},
    "torch._dynamo.callback": {
        "CompilationCallbackHandler.install_callbacks": compile_phases.torch_compile
    },
    "tfa_perf.data.loader": {"WindowBatches.__next__": wrappers.data_wait},
}


def _nothing() -> None:
    pass


class _Patches:
    """Attributes replaced, in order, and how to put each one back."""

    def __init__(self, on_step: Callable[[], None] | None) -> None:
        self._undo: list[Undo] = []
        self._on_step = on_step
        self._in_step = False
        self._graphs = GraphSteps(on_step)

    def replace(self, root: Any, path: str, wrap: Callable[[Function], Function]) -> None:
        """Wrap ``root.path``; nothing happens where this version of the library lacks it."""
        *parents, name = path.split(".")
        owner = root
        for parent in parents:
            owner = getattr(owner, parent, None)
        original = getattr(owner, name, None)
        if owner is None or original is None:
            return
        own = name in vars(owner)
        wrapped = wrap(original)
        setattr(owner, name, wrapped)

        def undo() -> None:
            # Something patched over us later keeps its own patch; ours stays inert below it.
            if vars(owner).get(name) is wrapped:
                if own:
                    setattr(owner, name, original)
                else:
                    delattr(owner, name)

        self._undo.append(undo)

    def restore(self) -> None:
        while self._undo:
            self._undo.pop()()
        set_tracing(None)

    def torch(self, torch: ModuleType) -> None:
        set_tracing(torch.compiler.is_compiling)
        for path, wrap in {
            "Tensor.to": wrappers.h2d(wrappers.to_leaves_host),
            "Tensor.cuda": wrappers.h2d(wrappers.cuda_leaves_host),
            "Tensor.copy_": wrappers.h2d(wrappers.copy_leaves_host),
            "Tensor.item": wrappers.loss_read,
            "Tensor.tolist": wrappers.loss_read,
            "Tensor.__float__": wrappers.loss_read,
            "nn.Module.__call__": wrappers.forward(torch.is_grad_enabled),
            "compile": wrappers.torch_compile(torch.is_grad_enabled),
            "nn.Module.zero_grad": wrappers.zero_grad,
            "Tensor.backward": wrappers.backward,
            "autograd.backward": wrappers.backward,
            "nn.utils.clip_grad_norm_": wrappers.clip,
            "nn.utils.clip_grad_value_": wrappers.clip,
            "nn.utils.clip_grad.clip_grad_norm_": wrappers.clip,
            "nn.utils.clip_grad.clip_grad_value_": wrappers.clip,
            "save": wrappers.checkpoint,
            "cuda.synchronize": wrappers.device_wait,
            "optim.Optimizer.zero_grad": wrappers.zero_grad,
            "amp.GradScaler.unscale_": wrappers.scaler,
            "amp.GradScaler.step": wrappers.scaler,
            "amp.GradScaler.update": wrappers.scaler,
            "cuda.CUDAGraph.capture_begin": self._graphs.capture_begin,
            "cuda.CUDAGraph.capture_end": self._graphs.capture_end,
            "cuda.CUDAGraph.replay": self._graphs.replay,
        }.items():
            self.replace(torch, path, wrap)
        self._optimizers(torch.optim.Optimizer)

    def _optimizers(self, base: type) -> None:
        def construct(original: Function) -> Function:
            @wraps(original)
            def __init__(optimizer: Any, *args: Any, **kwargs: Any) -> None:
                original(optimizer, *args, **kwargs)
                self._step_of(type(optimizer))

            return __init__

        self.replace(base, "__init__", construct)
        classes = [base]
        while classes:
            cls = classes.pop()
            classes.extend(cls.__subclasses__())
            self._step_of(cls)

    def _step_of(self, cls: type) -> None:
        # torch puts its own wrapper on a class's step at the first instance and marks it `hooked`.
        # Ours goes outside that one, never inside, or taking ours off would take off torch's.
        owner = next((c for c in cls.__mro__ if "step" in vars(c)), None)
        step = getattr(owner, "step", None)
        if getattr(step, "hooked", False) and not hasattr(step, _MARK):
            self.replace(owner, "step", self._optimizer)

    def _optimizer(self, original: Function) -> Function:
        call = wrappers.optimizer(original)

        @wraps(original)
        def step(*args: Any, **kwargs: Any) -> Any:
            if self._in_step or not recording_main_thread():
                return call(*args, **kwargs)
            self._in_step = True
            try:
                result = call(*args, **kwargs)
            finally:
                self._in_step = False
            if self._on_step is not None and not self._graphs.captured():
                self._on_step()
            return result

        setattr(step, _MARK, True)
        return step

    def captured_update(self, module: ModuleType) -> None:
        # Stands in for an optimizer's step, which then is not called.
        self.replace(module, "ClippedAdamW.step", self._optimizer)

    def dynamo(self, eval_frame: ModuleType) -> None:
        # backward() ends a graph, and the call of it would be compiled as a frame of its own, in
        # which spans do nothing. This leaves the frame alone, and not the calls that it makes.
        skip = getattr(eval_frame, "skip_code", None)
        if skip is not None:
            skip(wrappers.backward(_nothing).__code__)

    def library(self, wraps: _Wraps, module: ModuleType) -> None:
        for path, wrap in wraps.items():
            self.replace(module, path, wrap)

    def listen(self, start: Callable[[ModuleType], Undo], module: ModuleType) -> None:
        self._undo.append(start(module))


@contextmanager
def hooked(on_step: Callable[[], None] | None = None) -> Iterator[None]:
    """Patch the hook points inside the block and restore them after it.

    Libraries not imported yet are patched when the program imports them; none is imported here.
    `on_step` is called on the recorder's main thread at the end of each outermost optimizer step.
    """
    patches = _Patches(on_step)
    try:
        patches.replace(builtins, "print", wrappers.log)
        actions: dict[str, Callable[[ModuleType], None]] = {
            "torch": patches.torch,
            "triton.knobs": partial(patches.listen, compile_phases.listen_to_triton),
            "torch._dynamo.eval_frame": patches.dynamo,
            "numba.core.event": partial(patches.listen, compile_phases.listen_to_numba),
            "tfa_perf.train.captured_update": patches.captured_update,
        }
        for name, paths in _LIBRARIES.items():
            actions[name] = partial(patches.library, paths)
        with on_import(actions):
            yield
    finally:
        patches.restore()
