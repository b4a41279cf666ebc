"""Steps that leave no trace: what a step changes is put back to the last bit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["restored"]


@contextmanager
def restored(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """On leaving, model, optimizer state and random numbers are as they were on entering.

    All values are written back in place, so addresses stay. State that the optimizer made in
    between stays too, zeroed, which is how Adam starts.
    """
    device = next(model.parameters()).device
    tensors = [*model.parameters(), *model.buffers()]
    values = [t.detach().clone() for t in tensors]
    state = {id(t): t.clone() for t in _state_tensors(optimizer)}
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            with torch.no_grad():
                for tensor, value in zip(tensors, values, strict=True):
                    tensor.copy_(value)
                for tensor in _state_tensors(optimizer):
                    if id(tensor) in state:
                        tensor.copy_(state[id(tensor)])
                    else:
                        tensor.zero_()


def _state_tensors(optimizer: torch.optim.Optimizer) -> Iterator[Tensor]:
    for state in optimizer.state.values():
        yield from (value for value in state.values() if isinstance(value, Tensor))
