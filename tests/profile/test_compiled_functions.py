"""Plain functions under the real torch.compile: which of their calls are the forward pass."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from tfa_perf.profile import Recorder, recording
from tfa_perf.profile.hooks import hooked


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """A recorder under all hooks, with nothing compiled before."""
    torch.compiler.reset()
    with recording(Recorder()) as active, hooked():
        yield active
    torch.compiler.reset()


def slow_graph(graph: Any, inputs: Any) -> Any:
    def run(*args: Any) -> Any:
        time.sleep(0.01)
        return graph.forward(*args)

    return run


WEIGHT = torch.ones(4, requires_grad=True)


def loss_of(x: torch.Tensor) -> torch.Tensor:
    return (x @ WEIGHT).square().mean()


@pytest.mark.parametrize("decorated", [False, True])
def test_a_compiled_function_with_gradients_is_the_forward_pass(
    recorder: Recorder, decorated: bool
) -> None:
    if decorated:
        compiled = torch.compile(backend=slow_graph)(loss_of)
    else:
        compiled = torch.compile(loss_of, backend=slow_graph)
    assert compiled.__name__ == "loss_of"
    x = torch.ones(2, 4)
    compiled(x)
    recorder.lap()
    compiled(x).backward()
    lap = recorder.lap()
    assert lap.calls == {"forward": 1, "backward": 1}
    assert lap.phases["forward"] >= 0.01
    with torch.no_grad():
        compiled(x)
        recorder.lap()
        compiled(x)
    lap = recorder.lap()
    assert lap.calls == {"validation": 1}
    assert lap.phases["validation"] >= 0.01


def test_graphs_that_are_modules_are_still_forward(recorder: Recorder) -> None:
    # aot_eager runs a graph as a module with gradients off.
    compiled = torch.compile(loss_of, backend="aot_eager")
    compiled(torch.ones(2, 4))
    recorder.lap()
    compiled(torch.ones(2, 4))
    assert recorder.lap().calls == {"forward": 1}


@pytest.mark.parametrize("kind", [dict, tuple])
def test_gradients_in_a_container(recorder: Recorder, kind: type) -> None:
    def outputs(x: torch.Tensor) -> Any:
        loss = (x @ WEIGHT).mean()
        return {"n": 2, "loss": loss} if kind is dict else (2, [loss])

    compiled = torch.compile(outputs, backend="eager")
    compiled(torch.ones(2, 4))
    recorder.lap()
    compiled(torch.ones(2, 4))
    assert recorder.lap().calls == {"forward": 1}


def test_a_compiled_function_without_gradients_is_no_phase(recorder: Recorder) -> None:
    def augment(x: torch.Tensor) -> torch.Tensor:
        return x + 1

    compiled = torch.compile(augment, backend="eager")
    for _ in range(2):
        compiled(torch.ones(2, 4))
    recorder.lap()
    compiled(torch.ones(2, 4))
    with torch.no_grad():
        compiled(torch.ones(2, 4))
    assert "forward" not in (calls := recorder.lap().calls)
    assert "validation" not in calls


def test_a_whole_step_compiled_as_one_keeps_its_phases(recorder: Recorder) -> None:
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    @torch.compile(backend="eager")
    def step(x: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    for _ in range(3):
        step(torch.ones(2, 4))
    recorder.lap()
    step(torch.ones(2, 4))
    lap = recorder.lap()
    assert lap.calls == {"forward": 1, "zero_grad": 1, "backward": 1, "optimizer": 1}
    assert sum(lap.phases.values()) == lap.wall_s


def test_a_function_called_in_a_phase_is_that_phase_s(recorder: Recorder) -> None:
    compiled = torch.compile(loss_of, backend="eager")
    for _ in range(2):
        compiled(torch.ones(2, 4))
    recorder.lap()
    torch.nn.Module.__call__(Calls(compiled), torch.ones(2, 4))
    assert recorder.lap().calls == {"forward": 1}


class Calls(torch.nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(x)


def test_compile_is_as_before_outside_the_block() -> None:
    before = torch.compile
    with recording(Recorder()), hooked():
        assert torch.compile is not before
        compiled = torch.compile(torch.nn.Linear(1, 1))
        assert isinstance(compiled, torch.nn.Module)
    assert torch.compile is before
