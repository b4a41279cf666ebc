"""The span wrappers that hooks put around library functions.

Each opens its span only when the thread is inside no span, so the outermost hook owns everything it
calls; a phase that the user names inside it still counts on its own. The literal
``with phase("..."):`` lines here are also what names the phase of a sampled stack: the path taken
when a hook does not fire lies outside the block, so stacks and timers follow the same rule. That is
why each phase has a wrapper of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from inspect import isroutine
from typing import Any

from tfa_perf.profile.phases import in_no_phase, let_hooks_in, outermost, phase

Function = Callable[..., Any]


def data_wait(original: Function) -> Function:
    @wraps(original)
    def wait(*args: Any, **kwargs: Any) -> Any:
        if not outermost():
            return original(*args, **kwargs)
        with phase("data_wait"):
            return original(*args, **kwargs)

    return wait


def forward(has_grad: Callable[[], bool]) -> Callable[[Function], Function]:
    """Wrap a module's call; without gradients it is a validation pass, not part of a step."""

    def wrap(original: Function) -> Function:
        @wraps(original)
        def forward(*args: Any, **kwargs: Any) -> Any:
            if not in_no_phase():
                return original(*args, **kwargs)
            if has_grad():
                with phase("forward"):
                    return original(*args, **kwargs)
            with phase("validation"):
                return original(*args, **kwargs)

        return forward

    return wrap


def torch_compile(has_grad: Callable[[], bool]) -> Callable[[Function], Function]:
    """Wrap ``torch.compile``: calling a compiled function may be the forward pass.

    It is where a call with gradients returned a tensor that has them; a compiled update of
    parameters returns none. The function may be a whole step, so hooks inside it count.
    """

    def time_calls(compiled: Function) -> Function:
        differentiable = False

        @wraps(compiled)
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal differentiable
            if not in_no_phase():
                return compiled(*args, **kwargs)
            if not differentiable:
                result = compiled(*args, **kwargs)
                differentiable = has_grad() and _requires_grad(result)
                return result
            if has_grad():
                with phase("forward") as span:
                    let_hooks_in(span)
                    return compiled(*args, **kwargs)
            with phase("validation"):
                return compiled(*args, **kwargs)

        return call

    def wrap(original: Function) -> Function:
        @wraps(original)
        def compile(model: Any = None, *args: Any, **kwargs: Any) -> Any:
            compiled = original(model, *args, **kwargs)
            # Without a model it is a decorator, which comes back here; a module has its own hook.
            return time_calls(compiled) if isroutine(model) else compiled

        return compile

    return wrap


def _requires_grad(result: Any) -> bool:
    """Whether a result is, or holds in lists and dicts, a tensor that has gradients."""
    if isinstance(result, Mapping):
        result = list(result.values())
    if isinstance(result, (list, tuple)):
        return any(map(_requires_grad, result))
    return bool(getattr(result, "requires_grad", False))


def backward(original: Function) -> Function:
    @wraps(original)
    def backward(*args: Any, **kwargs: Any) -> Any:
        if not outermost():
            return original(*args, **kwargs)
        with phase("backward"):
            return original(*args, **kwargs)

    return backward


def optimizer(original: Function) -> Function:
    """Wrap an optimizer's step; forward and backward in its closure are not the optimizer's."""

    @wraps(original)
    def step(*args: Any, **kwargs: Any) -> Any:
        if not outermost():
            return original(*args, **kwargs)
        with phase("optimizer"):
            if callable(kwargs.get("closure")):
                kwargs["closure"] = _outside(kwargs["closure"])
            elif len(args) > 1 and callable(args[1]):
                args = (args[0], _outside(args[1]), *args[2:])
            return original(*args, **kwargs)

    return step


def _outside(closure: Function) -> Function:
    def run_closure(*args: Any, **kwargs: Any) -> Any:
        with phase("other"):
            return closure(*args, **kwargs)

    return run_closure


def scaler(original: Function) -> Function:
    @wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not outermost():
            return original(*args, **kwargs)
        with phase("optimizer"):
            return original(*args, **kwargs)

    return call


def zero_grad(original: Function) -> Function:
    @wraps(original)
    def zero_grad(*args: Any, **kwargs: Any) -> Any:
        if not outermost():
            return original(*args, **kwargs)
        with phase("zero_grad"):
            return original(*args, **kwargs)

    return zero_grad


def clip(original: Function) -> Function:
    @wraps(original)
    def clip(*args: Any, **kwargs: Any) -> Any:
        if not outermost():
            return original(*args, **kwargs)
        with phase("clip"):
            return original(*args, **kwargs)

    return clip


def loss_read(original: Function) -> Function:
    @wraps(original)
    def read(*args: Any, **kwargs: Any) -> Any:
        if not outermost():
            return original(*args, **kwargs)
        with phase("loss_read"):
            return original(*args, **kwargs)

    return read


def log(original: Function) -> Function:
    @wraps(original)
    def write(*args: Any, **kwargs: Any) -> Any:
        if not outermost():
            return original(*args, **kwargs)
        with phase("logging"):
            return original(*args, **kwargs)

    return write


def log_result(original: Function) -> Function:
    """Wrap a method that returns a function, so that the returned function counts as logging."""

    @wraps(original)
    def make(*args: Any, **kwargs: Any) -> Any:
        return log(original(*args, **kwargs))

    return make


def checkpoint(original: Function) -> Function:
    @wraps(original)
    def save(*args: Any, **kwargs: Any) -> Any:
        if not outermost():
            return original(*args, **kwargs)
        with phase("checkpoint"):
            return original(*args, **kwargs)

    return save


def device_wait(original: Function) -> Function:
    @wraps(original)
    def synchronize(*args: Any, **kwargs: Any) -> Any:
        if not outermost():
            return original(*args, **kwargs)
        with phase("device_wait"):
            return original(*args, **kwargs)

    return synchronize


def graph_replay(original: Function) -> Function:
    @wraps(original)
    def replay(*args: Any, **kwargs: Any) -> Any:
        if not outermost():
            return original(*args, **kwargs)
        with phase("graph_replay"):
            return original(*args, **kwargs)

    return replay


def h2d(leaves_host: Callable[..., bool]) -> Callable[[Function], Function]:
    def wrap(original: Function) -> Function:
        @wraps(original)
        def copy(self: Any, *args: Any, **kwargs: Any) -> Any:
            if not outermost() or not leaves_host(self, *args, **kwargs):
                return original(self, *args, **kwargs)
            with phase("h2d"):
                return original(self, *args, **kwargs)

        return copy

    return wrap


def _is_off_host(device: Any) -> bool:
    """True for a device argument (device, name, index, or a tensor on it) other than the CPU."""
    device = getattr(device, "device", device)
    kind = getattr(device, "type", device)
    if isinstance(kind, str):
        return kind.split(":")[0] != "cpu"
    return isinstance(kind, int) and not isinstance(kind, bool)


def to_leaves_host(tensor: Any, *args: Any, **kwargs: Any) -> bool:
    target = args[0] if args else kwargs.get("device", kwargs.get("other"))
    return _is_off_host(target) and bool(tensor.is_cpu)


def cuda_leaves_host(tensor: Any, *args: Any, **kwargs: Any) -> bool:
    return bool(tensor.is_cpu)


def copy_leaves_host(tensor: Any, source: Any = None, *args: Any, **kwargs: Any) -> bool:
    source = kwargs.get("other", kwargs.get("src", source))
    return bool(getattr(source, "is_cpu", False)) and not tensor.is_cpu
